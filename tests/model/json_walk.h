// SPDX-License-Identifier: Apache-2.0
// A random text within a grammar, token by token: what a model with random weights would write, but for a liking to
// come to an end.
#ifndef WF_TESTS_MODEL_JSON_WALK_H_
#define WF_TESTS_MODEL_JSON_WALK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/decode/json_grammar.h"
#include "wf/decode/sampler.h"
#include "wf/decode/token_mask.h"

namespace wf::test {

// Each token is drawn evenly from those allowed; with growing probability only from those that end something.
// visit(state, mask) is called before each.
template <class Visit>
Result<std::string> RandomText(const std::shared_ptr<const TokenTable>& table,
                               const std::shared_ptr<const JsonGrammar>& grammar, Rng* rng, const Visit& visit) {
  WF_ASSIGN(ConstrainedState state, ConstrainedState::Create(table, grammar));
  std::string text;
  std::vector<int32_t> ids, closing;
  for (size_t step = 0; !state.Done(); ++step) {
    WF_ASSIGN(const TokenMask* mask, state.Allowed());
    mask->Members(&ids);
    if (ids.empty()) return InternalError("no token may follow " + text);
    if (step > 20000) return InternalError("no end after " + Quote(text));
    visit(text, *mask);
    closing.clear();
    for (const int32_t id : ids) {
      const std::string piece = table->IsText(id) ? table->Piece(id) : std::string();
      if (piece.empty() || std::string_view("\"]},").find(piece[0]) != std::string_view::npos) closing.push_back(id);
    }
    const bool close = !closing.empty() && rng->Uniform() * 200 < static_cast<double>(std::min<size_t>(step + 20, 190));
    const std::vector<int32_t>& from = close ? closing : ids;
    const int32_t id = from[rng->Next() % from.size()];
    if (!state.Accept(id)) return InternalError("an allowed token was refused after " + text);
    if (table->IsText(id)) text += table->Piece(id);
  }
  return text;
}
inline Result<std::string> RandomText(const std::shared_ptr<const TokenTable>& table,
                                      const std::shared_ptr<const JsonGrammar>& grammar, Rng* rng) {
  return RandomText(table, grammar, rng, [](const std::string&, const TokenMask&) {});
}

}  // namespace wf::test
#endif  // WF_TESTS_MODEL_JSON_WALK_H_
