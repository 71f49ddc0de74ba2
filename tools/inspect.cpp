// Shows what is in a checkpoint.

#include "qlora/run/inspect.h"
#include "qlora/config/command_line.h"

#include <iostream>

namespace {

struct InspectArguments {
  std::string path;
  bool json = false;

  template <class V>
  void visit(V&& v) {
    v.field("path", path, "file or directory", qlora::Required{}, qlora::Positional{});
    v.field("json", json, "as JSON, with every detail");
  }
};

int inspect(const InspectArguments& arguments) {
  const qlora::Json facts = qlora::run::inspect(arguments.path);
  std::cout << (arguments.json ? facts.dump(2) + "\n" : qlora::run::describe(facts)) << std::flush;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return qlora::config::run_main<InspectArguments>(
      argc, argv,
      {"Shows tensors, types, sizes, quantization, adapter settings and memory footprint.",
       "Reads a safetensors or GGUF file, a model directory, an adapter or a training "
       "checkpoint."},
      inspect);
}
