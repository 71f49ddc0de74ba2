# Arrow's C++ libraries for reading Parquet: an installed package where CMake finds one, else the
# headers and libraries inside the PyPI package pyarrow, which tools/setup puts into .venv.
# Defines the target qlora_arrow.

set(QLORA_ARROW_ROOT "" CACHE PATH
  "folder of the PyPI package pyarrow (default: that of .venv), or empty for an installed Arrow")

add_library(qlora_arrow INTERFACE)
find_package(Parquet CONFIG QUIET)
if(TARGET Parquet::parquet_shared AND NOT QLORA_ARROW_ROOT)
  target_link_libraries(qlora_arrow INTERFACE Parquet::parquet_shared)
  return()
endif()

file(GLOB qlora_arrow_roots
  ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/pyarrow)
if(QLORA_ARROW_ROOT)
  set(qlora_arrow_roots ${QLORA_ARROW_ROOT})
endif()
foreach(name parquet arrow)
  # The wheel has libparquet.so.2600 without the link libparquet.so.
  set(libraries "")
  foreach(root ${qlora_arrow_roots})
    file(GLOB found ${root}/lib${name}.so.[0-9]*)
    list(APPEND libraries ${found})
  endforeach()
  if(NOT libraries)
    message(FATAL_ERROR "Arrow's C++ libraries (lib${name}) are missing, which read Parquet files. "
      "Run tools/setup, or pip install pyarrow and pass -DQLORA_ARROW_ROOT=<its folder>, "
      "or build without Parquet: -DQLORA_PARQUET=OFF")
  endif()
  list(GET libraries 0 library)
  get_filename_component(folder ${library} DIRECTORY)
  add_library(qlora_lib${name} SHARED IMPORTED)
  set_target_properties(qlora_lib${name} PROPERTIES IMPORTED_LOCATION ${library})
  target_link_libraries(qlora_arrow INTERFACE qlora_lib${name})
endforeach()
target_include_directories(qlora_arrow SYSTEM INTERFACE ${folder}/include)
