#pragma once
// Numbers as Python's json module writes them.

#include <string>

namespace qlora::io {

// repr(float): the shortest digits that read back as the same double, with an exponent below 1e-4
// and from 1e16 on ("0.0001", "1e-05", "16.0", "1e+16"). `value` is finite.
std::string python_float(double value);

}  // namespace qlora::io
