// SPDX-License-Identifier: Apache-2.0
// Bodies of explain.h.
#ifndef WF_DECODE_EXPLAIN_IMPL_H_
#define WF_DECODE_EXPLAIN_IMPL_H_

#include <cstdio>
#include <string>

#include "wf/decode/draft_verifier.h"
#include "wf/decode/explain.h"

namespace wf {
namespace detail {

inline std::string Ms(double ms) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f ms", ms);
  return text;
}

}  // namespace detail

WF_MODEL_INLINE std::string ExplainDecode(const DecodeSettings& s, const PassCosts& costs) {
  using detail::Ms;
  std::string out = "decode: " + std::string(Name(s.mode));
  if (s.mode != DecodeMode::kAr) {
    out += ", style " + std::string(Name(s.style)) + ", block " + std::to_string(s.block);
  }
  if (s.diffusion() && s.mode != DecodeMode::kGreedy) {
    char threshold[32];
    std::snprintf(threshold, sizeof(threshold), "%.2f", static_cast<double>(s.threshold));
    out += ", sub-block " + std::to_string(s.sub_block) + ", threshold " + threshold;
  }
  if (costs.empty()) return out + "\npasses were not measured\n";
  out += "\na pass:";
  for (const auto& [rows, ms] : costs.points()) {
    char times[32];
    std::snprintf(times, sizeof(times), " (x %.2f)", ms / costs.Ms(1));
    out += (rows == 1 ? " " : ", ") + std::to_string(rows) + (rows == 1 ? " row " : " rows ") + Ms(ms) + times;
  }
  const bool causal = s.style == DiffusionStyle::kCausal;
  const double block = costs.Ms(s.block), sub = costs.Ms(s.sub_block);
  if (s.diffusion()) {
    out += "\nhead: only rows that predict a mask of the sub-block reach it";
    if (causal) {
      out += "\nrows: from the first whose K and V are not final to the end of the sub-block, at most " + Ms(block) +
             "; later ones change nothing before them" + "\nfinalising: merged into the next pass, " +
             Ms(costs.Ms(2 * s.sub_block)) + " for two sub-blocks instead of twice " + Ms(sub);
    } else {
      out += "\nrows: the whole block, " + Ms(block);
      if (s.block_cache) out += ", then the sub-block, " + Ms(sub) + " (--block-cache)";
      out += "\nfinalising: a pass of its own, " + Ms(block) +
             ": the next block's first token comes from it; not after the last block";
    }
  }
  if (s.mode == DecodeMode::kVerify) {
    const size_t draft_rows = causal ? 0 : s.block;
    out += causal ? "\ndrafts: from masks at the end of the pass that verifies"
                  : "\ndrafts: from a pass over the block, " + Ms(block);
    out += "; most tokens a second, if each is accepted with probability";
    for (const double p : {0.5, 0.7, 0.8, 0.9, 0.95}) {
      char text[64];
      std::snprintf(text, sizeof(text), "%s %.2f: %zu", p == 0.5 ? "" : ",", p,
                    DraftVerifier::BestWidth(p, s.block - 1, draft_rows, costs));
      out += text;
    }
  }
  const size_t rows = !s.diffusion() ? 1 : causal ? s.sub_block : s.block;
  out +=
      "\nseveral requests: in one pass, two cost " + Ms(costs.Ms(2 * rows)) + " instead of " + Ms(2 * costs.Ms(rows));
  return out + "\n";
}

}  // namespace wf
#endif  // WF_DECODE_EXPLAIN_IMPL_H_
