# cuDNN and the headers of its C++ frontend, as target qlora_cudnn: PyPI's packages beside torch
# (nvidia/cudnn and include), those of the .venv that tools/setup makes, or the system's.

file(GLOB qlora_site_packages ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages)
foreach(prefix ${TORCH_INSTALL_PREFIX} ${CMAKE_PREFIX_PATH})
  string(REGEX REPLACE "/torch(/share/cmake)?/?$" "" prefix ${prefix})
  list(PREPEND qlora_site_packages ${prefix})
endforeach()

find_path(QLORA_CUDNN_INCLUDE cudnn_backend.h
  HINTS ${qlora_site_packages} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES nvidia/cudnn/include)
find_library(QLORA_CUDNN_LIBRARY NAMES libcudnn.so.9 cudnn
  HINTS ${qlora_site_packages} ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES nvidia/cudnn/lib)
find_path(QLORA_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h
  HINTS ${qlora_site_packages} PATH_SUFFIXES include)

foreach(found QLORA_CUDNN_INCLUDE QLORA_CUDNN_LIBRARY QLORA_CUDNN_FRONTEND_INCLUDE)
  if(NOT ${found})
    message(FATAL_ERROR "${found} was not found: call tools/setup, which installs cuDNN 9 and the "
      "headers of its C++ frontend to .venv, or name the place with -D${found}=...")
  endif()
endforeach()

add_library(qlora_cudnn INTERFACE)
target_include_directories(qlora_cudnn SYSTEM INTERFACE
  ${QLORA_CUDNN_INCLUDE} ${QLORA_CUDNN_FRONTEND_INCLUDE})
target_link_libraries(qlora_cudnn INTERFACE ${QLORA_CUDNN_LIBRARY})
