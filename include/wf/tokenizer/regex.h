// SPDX-License-Identifier: Apache-2.0
// A Split pattern of a tokenizer.json, compiled. Such patterns are written for Oniguruma (Ruby syntax) over
// Unicode text; they are translated to PCRE2 where the two differ (\s is exactly White_Space, \h is a hex
// digit, ...) and refused where they cannot be. Not a general regex library: it only splits.
#ifndef WF_TOKENIZER_REGEX_H_
#define WF_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

class Regex {
 public:
  // Memory of one match, for one thread at a time; may serve several expressions.
  class Scratch {
   public:
    Scratch();
    void* data() const noexcept { return data_.get(); }
    void* context() const noexcept { return context_.get(); }

   private:
    std::shared_ptr<void> data_, context_;
  };

  // kUnsupported for an expression that is wrong or means something else here; the message quotes it.
  static Result<Regex> Compile(std::string_view pattern);

  // Appends the matches in `text` and the gaps between them, in order, without empty ones. `text` must be
  // valid UTF-8. Time is linear in the text for the usual patterns; kLimit if a match would take too long.
  Status Split(std::string_view text, Scratch* scratch, std::vector<std::string_view>* pieces) const;

 private:
  std::string pattern_;
  std::shared_ptr<const void> code_;
};

// The PCRE2 spelling of an Oniguruma expression.
Result<std::string> TranslateOnigurumaPattern(std::string_view pattern);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/regex-impl.h"
#endif
#endif  // WF_TOKENIZER_REGEX_H_
