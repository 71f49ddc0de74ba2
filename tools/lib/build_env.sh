# shellcheck shell=bash disable=SC2034
# What setup, build, test and quickstart share. Sourced from the project's root by bash scripts
# that run under `set -euo pipefail`.

readonly kVenv=$PWD/.venv
readonly kModel=models/SmolLM2-135M-Instruct.Q4_1.gguf
# LibTorch's CUDA version; an installed toolkit of another version is left alone.
readonly kCudaVersion=13.0
readonly kGigabytesPerJob=2  # a file with LibTorch's headers
readonly kOldestGcc=12 kNewestGcc=15  # nvcc 13.0 refuses newer ones

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }
stop() { say "$*" >&2; exit 1; }

site_packages() {
  local folder
  for folder in "$kVenv"/lib/python3*/site-packages; do printf '%s\n' "$folder"; return; done
}

# The first g++ that C++20 and nvcc accept; fails where there is none.
find_compiler() {
  local name version
  for name in ${CXX:+"$CXX"} g++ g++-15 g++-14 g++-13 g++-12; do
    version=$("$name" -dumpfullversion 2>/dev/null) || continue
    version=${version%%.*}
    if ((version >= kOldestGcc && version <= kNewestGcc)); then command -v "$name"; return; fi
  done
  return 1
}

# True for a folder with nvcc of LibTorch's CUDA version and the headers that LibTorch includes.
is_toolkit() {
  local header
  for header in cuda_runtime cublas_v2 cusparse cusolverDn cufft curand; do
    [[ -f $1/include/$header.h ]] || return 1
  done
  [[ -e $1/lib64/libcudart.so ]] || return 1
  "$1/bin/nvcc" --version 2>/dev/null | grep -q "release $kCudaVersion,"
}

# The installed CUDA toolkit; fails where none fits. QLORA_CUDA_FROM_PYPI=1 hides what is installed.
find_installed_toolkit() {
  local folder nvcc
  [[ ${QLORA_CUDA_FROM_PYPI:-0} != 1 ]] || return 1
  nvcc=$(command -v nvcc || true)
  for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" "${nvcc%/bin/nvcc}" \
    "/usr/local/cuda-$kCudaVersion" /usr/local/cuda; do
    if [[ -n $folder ]] && is_toolkit "$folder"; then printf '%s\n' "$folder"; return; fi
  done
  return 1
}

find_toolkit() {
  find_installed_toolkit && return
  is_toolkit "$kVenv/cuda" && printf '%s\n' "$kVenv/cuda"
}

# How many compilers run at a time: what cores and memory allow, or QLORA_JOBS.
jobs_that_fit() {
  local cores fitting
  if [[ -n ${QLORA_JOBS:-} ]]; then echo "$QLORA_JOBS"; return; fi
  cores=$(nproc)
  fitting=$(awk -v each=$kGigabytesPerJob '/^MemAvailable/ { print int($2 / 1048576 / each) }' \
    /proc/meminfo)
  ((fitting >= 1)) || fitting=1
  echo $((fitting < cores ? fitting : cores))
}
