# How this project declares modules, tests and programs.

# Left out: designated initializers may leave members to their defaults; g++ 12 sees overlaps and
# uninitialized bytes inside std::string that are not there (GCC bugs 105329, 105562).
set(qlora_warnings -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers -Wno-restrict -Wno-maybe-uninitialized)
if(QLORA_WERROR)
  list(APPEND qlora_warnings -Werror)
endif()

# qlora_module(NAME SOURCES a.cpp b.cu [PUBLIC libraries] [PRIVATE libraries])
# One static library qlora_NAME with the public headers under include/qlora/NAME.
function(qlora_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(qlora_${name} STATIC ${arg_SOURCES})
  target_include_directories(qlora_${name}
    PUBLIC ${PROJECT_SOURCE_DIR}/include
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(qlora_${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  target_compile_options(qlora_${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${qlora_warnings}>)
endfunction()

# The same for a module that uses LibTorch: shares one precompiled header of ATen.
function(qlora_torch_module name)
  qlora_module(${name} ${ARGN})
  qlora_use_torch(qlora_${name})
endfunction()

function(qlora_use_torch target)
  target_include_directories(${target} SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${TORCH_CXX_FLAGS}>)
  target_link_libraries(${target} PUBLIC ${TORCH_LIBRARIES})
  # Programs, too, so that they can share the precompiled header.
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fPIC>)
  if(target STREQUAL "qlora_tensor")
    target_precompile_headers(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:${PROJECT_SOURCE_DIR}/src/tensor/torch_pch.h>)
  else()
    target_precompile_headers(${target} REUSE_FROM qlora_tensor)
  endif()
endfunction()

# qlora_tests(NAME [TORCH] [GPU] SOURCES a_test.cpp ... [LIBRARIES more])
# One test program qlora_NAME_tests, known to ctest as NAME and, with GPU, as NAME.gpu (label gpu):
# the suites whose names start with Gpu.
function(qlora_tests name)
  if(NOT QLORA_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "TORCH;GPU" "" "SOURCES;LIBRARIES" ${ARGN})
  set(target qlora_${name}_tests)
  add_executable(${target} ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE qlora_${name} qlora_test_support ${arg_LIBRARIES})
  target_include_directories(${target} PRIVATE
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${qlora_warnings}>)
  if(arg_TORCH)
    qlora_use_torch(${target})
  endif()
  add_test(NAME ${name} COMMAND ${target} --gtest_filter=-Gpu*
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${name})
  if(arg_GPU)
    add_test(NAME ${name}.gpu COMMAND ${target} --gtest_filter=Gpu*
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name}.gpu PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "SKIPPED")
  endif()
endfunction()

# qlora_program(NAME) builds tools/NAME.cpp to bin/NAME.
function(qlora_program name)
  cmake_parse_arguments(arg "" "" "LIBRARIES" ${ARGN})
  add_executable(${name} ${name}.cpp)
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES})
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${qlora_warnings}>)
endfunction()

function(qlora_add_modules)
  foreach(module ${ARGN})
    if(EXISTS ${PROJECT_SOURCE_DIR}/src/${module}/CMakeLists.txt)
      add_subdirectory(src/${module})
    endif()
    # tests/data holds the reference results, so the tests of module data lie beside it.
    string(REGEX REPLACE "^data$" "data_module" test_folder ${module})
    if(QLORA_TESTS AND EXISTS ${PROJECT_SOURCE_DIR}/tests/${test_folder}/CMakeLists.txt)
      add_subdirectory(tests/${test_folder})
    endif()
  endforeach()
endfunction()
