# How this project declares modules, tests and programs.

# Left out: designated initializers may leave members to their defaults; g++ takes values inside
# std::optional for uninitialized that are guarded by its flag.
set(qlora_warnings -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers -Wno-maybe-uninitialized)
if(QLORA_WERROR)
  list(APPEND qlora_warnings -Werror)
endif()

# Has `target` use the precompiled header of module base or tensor, which itself makes it.
# Sharing one takes the same flags everywhere: -fPIC for programs, too.
set(qlora_precompiled_base base/pch.h)
set(qlora_precompiled_tensor base/pch.h tensor/pch.h)
function(qlora_precompile target owner)
  if(target STREQUAL "qlora_${owner}")
    foreach(header ${qlora_precompiled_${owner}})
      target_precompile_headers(${target} PRIVATE
        $<$<COMPILE_LANGUAGE:CXX>:${PROJECT_SOURCE_DIR}/src/${header}>)
    endforeach()
  else()
    target_precompile_headers(${target} REUSE_FROM qlora_${owner})
  endif()
endfunction()

# qlora_module(NAME [OWN_FLAGS] SOURCES a.cpp b.cu [PUBLIC libraries] [PRIVATE libraries])
# One static library qlora_NAME with the public headers under include/qlora/NAME. OWN_FLAGS: the
# module adds compiler flags, so that it cannot share the precompiled header.
function(qlora_module name)
  cmake_parse_arguments(arg "TORCH;OWN_FLAGS" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(qlora_${name} STATIC ${arg_SOURCES})
  target_include_directories(qlora_${name}
    PUBLIC ${PROJECT_SOURCE_DIR}/include
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(qlora_${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  target_compile_options(qlora_${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${qlora_warnings}>)
  if(arg_TORCH)
    qlora_use_torch(qlora_${name})
  elseif(NOT arg_OWN_FLAGS)
    qlora_precompile(qlora_${name} base)
  endif()
endfunction()

# The same for a module that uses LibTorch.
function(qlora_torch_module name)
  qlora_module(${name} TORCH ${ARGN})
endfunction()

function(qlora_use_torch target)
  target_include_directories(${target} SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${TORCH_CXX_FLAGS}>)
  target_link_libraries(${target} PUBLIC ${TORCH_LIBRARIES})
  qlora_precompile(${target} tensor)
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
  else()
    qlora_precompile(${target} base)
  endif()
  # Most of a test's compile time is its headers': four files share one reading.
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
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
