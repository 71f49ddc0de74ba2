#pragma once
// A labelled text with what is learned between ⟦ and ⟧.

#include "data/chat_labels.h"

#include <string>

namespace qlora::data::test {

inline std::string marked(const LabelledText& labelled) {
  const std::string& text = labelled.rendered.text;
  std::string out;
  std::size_t done = 0;
  for (const text::TextRange range : labelled.learned) {
    out += text.substr(done, range.begin - done) + "⟦" +
           text.substr(range.begin, range.end - range.begin) + "⟧";
    done = range.end;
  }
  return out + text.substr(done);
}

}  // namespace qlora::data::test
