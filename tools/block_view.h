// SPDX-License-Identifier: Apache-2.0
// Block diffusion on a terminal: the text so far and after it, dimmed, the block that is being filled, redrawn with
// every pass.
#ifndef WF_TOOLS_BLOCK_VIEW_H_
#define WF_TOOLS_BLOCK_VIEW_H_

#include <cstdio>
#include <string>

#include "wf/engine/request.h"
#include "wf/tokenizer/tokenizer.h"

namespace wf {

class BlockView {
 public:
  explicit BlockView(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Show(const Event& e) {
    std::string out;
    if (drawn_)
      out +=
          "\x1b"
          "8\x1b[J";  // back to the end of the text, and what follows is wiped out
    out += e.text;
    drawn_ = false;
    if (!e.finished) {
      const std::string block = Pending(e);
      if (!block.empty()) {
        // Room below first, so that nothing scrolls between saving the cursor's place and returning to it.
        for (int i = 0; i < kLines; ++i)
          out +=
              "\x1b"
              "D";
        out += "\x1b[" + std::to_string(kLines) +
               "A\x1b"
               "7\x1b[2m" +
               block + "\x1b[0m";
        drawn_ = true;
      }
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fflush(stdout);
  }

 private:
  static constexpr int kLines = 6;
  static constexpr size_t kMost = 320;  // characters, which fit into these lines of 60 and more columns

  // What the block holds behind its first mask, and the masks.
  std::string Pending(const Event& e) const {
    std::string out;
    bool pending = false;
    size_t shown = 0;
    for (const int32_t id : e.block) {
      pending = pending || id < 0;
      if (!pending) continue;
      if (id < 0) {
        out += "\xe2\x96\x91";  // light shade
        ++shown;
      } else if (!tokenizer_.IsControl(id)) {
        for (const char c : tokenizer_.Piece(id)) out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        shown += tokenizer_.Piece(id).size();
      }
      if (shown > kMost) break;
    }
    return out;
  }

  const Tokenizer& tokenizer_;
  bool drawn_ = false;
};

}  // namespace wf
#endif  // WF_TOOLS_BLOCK_VIEW_H_
