// SPDX-License-Identifier: Apache-2.0
// JSON texts as a language of bytes: a JSON schema becomes a grammar, and a matcher says after each byte whether a
// valid text can still come of it. Every text that a matcher lets through is valid by the schema;
// docs/structured_output.md lists the schemas that are understood and which of their texts are produced. Not for tokens
// (token_mask.h).
#ifndef WF_DECODE_JSON_GRAMMAR_H_
#define WF_DECODE_JSON_GRAMMAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/decode/grammar.h"

namespace wf {

// The grammar of the values that a JSON schema allows. Errors begin with `name` and the JSON pointer of the keyword, as
// in "NAME/properties/a/patternProperties: not supported": kUnsupported for what is outside the subset,
// kInvalidArgument for what is no schema or allows no value, kLimit for what is too large.
Result<std::shared_ptr<const JsonGrammar>> CompileJsonSchema(std::string_view schema_json,
                                                             const std::string& name = "schema");
// Any JSON object.
std::shared_ptr<const JsonGrammar> JsonObjectGrammar();

// Follows a text through a grammar. What was worked out is kept as a table of states, so a byte costs one look-up the
// second time. Copies are independent; one thread at a time.
class JsonMatcher {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // no valid text begins so

  explicit JsonMatcher(std::shared_ptr<const JsonGrammar> grammar);

  // The text so far goes on with `byte`. False, and nothing changes, if no valid text does, or if finding out takes
  // more than kWork steps.
  bool Advance(uint8_t byte);
  bool CanEnd() const { return can_end(state_); }  // the text so far is valid
  bool CanGoOn() const { return can_go_on(state_); }

  // For walks over many continuations. States are valid until the next call of Trim().
  State state() const noexcept { return state_; }
  void set_state(State s) noexcept { state_ = s; }
  State Next(State s, uint8_t byte) {
    const uint32_t next = next_[static_cast<size_t>(s) * classes_ + grammar_->class_of(byte)];
    return next != kUnknown ? next : Follow(s, byte);
  }
  bool can_end(State s) const { return !states_[s].frames.empty() && states_[s].frames.front() == 0; }
  bool can_go_on(State s) const { return states_[s].frames.size() > (can_end(s) ? 1 : 0); }
  // How many plain characters of a string may follow; kNever: any number. *only: nothing but that string goes on here.
  uint32_t room(State s, bool* only) const {
    *only = states_[s].room_only;
    return states_[s].room;
  }
  // Forgets all states but the present one if there are very many. True: states changed their numbers.
  bool Trim();
  // Steps taken since the last call of ResetWork(). Above kWork everything is kDead until then.
  void ResetWork() noexcept { work_ = 0; }
  bool overworked() const noexcept { return work_ > JsonLimits::kWork; }
  const JsonGrammar& grammar() const noexcept { return *grammar_; }

 private:
  static constexpr uint32_t kUnknown = ~0u;
  // A node and, as a list, where the calls that led to it return to. parent 0: none.
  struct Frame {
    uint32_t node, parent, depth;
  };
  struct StateInfo {
    std::vector<uint32_t> frames;  // ascending; a leading 0 says that the text may end here
    uint32_t room = 0;
    bool room_only = false;
  };
  struct ListHash {
    size_t operator()(const std::vector<uint32_t>& v) const noexcept {
      uint64_t h = v.size();
      for (const uint32_t x : v) h = (h ^ x) * 0x9e3779b97f4a7c15ull ^ (h >> 29);
      return static_cast<size_t>(h);
    }
  };

  void Clear();
  uint32_t InternFrame(uint32_t node, uint32_t parent, uint32_t depth);
  void Reach(uint32_t node, uint32_t parent, uint32_t depth);
  State Close();
  State Follow(State s, uint8_t byte);

  std::shared_ptr<const JsonGrammar> grammar_;
  uint32_t classes_;
  State state_ = kDead;
  std::vector<Frame> frames_;  // [0] is no frame
  std::unordered_map<uint64_t, uint32_t> frame_ids_;
  std::vector<StateInfo> states_;
  std::unordered_map<std::vector<uint32_t>, State, ListHash> state_ids_;
  std::vector<State> next_;  // [state][class]
  size_t work_ = 0;
  // Of Close(): frames to look at, and which were seen.
  std::vector<uint32_t> pending_;
  std::vector<uint32_t> seen_;
  uint32_t round_ = 0;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/json_grammar-impl.h"
#endif
#endif  // WF_DECODE_JSON_GRAMMAR_H_
