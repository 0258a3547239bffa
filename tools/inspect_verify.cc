// SPDX-License-Identifier: Apache-2.0
#include "tools/inspect_verify.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

#include "wf/model/compare.h"

namespace wf {
namespace {

namespace json = boost::json;

constexpr double kScaleTolerance = 0x1p-11;  // an f16 rounds by at most this
constexpr double kCosine = 0.99;
constexpr double kNorm = 0.01;  // Q4_0's values are a little longer or shorter than those they stand for

bool Same(const TensorComparison& t) {
  if (!t.ternary && t.type_a == t.type_b) return t.differing == 0;
  return t.ternary ? t.differing == 0 && t.scale_difference <= kScaleTolerance
                   : t.cosine >= kCosine && std::fabs(t.norm_ratio - 1) <= kNorm;
}

std::string Types(const TensorComparison& t) { return t.type_a == t.type_b ? t.type_a : t.type_a + " / " + t.type_b; }

void PrintText(const Model& a, const Model& b, const std::vector<TensorComparison>& tensors, const LogitComparison& l,
               bool same) {
  std::printf("A: %s\nB: %s\n\n%-44s %-18s %12s %12s %12s  %s\n", a.gguf().name().c_str(), b.gguf().name().c_str(),
              "tensor", "types", "differing", "scale", "cosine", "max |A - B|");
  size_t different = 0;
  for (const TensorComparison& t : tensors) {
    different += Same(t) ? 0 : 1;
    std::printf("%-44s %-18s %12llu ", t.name.c_str(), Types(t).c_str(), static_cast<unsigned long long>(t.differing));
    if (t.ternary) {
      std::printf("%12.3g ", t.scale_difference);
    } else {
      std::printf("%12s ", "-");
    }
    std::printf("%12.9f  %.6g%s\n", t.cosine, t.max_difference, Same(t) ? "" : "  DIFFERENT");
  }
  std::printf(
      "\nlogits over %zu tokens: mean |A - B| %.6g, max %.6g (deviation of A's %.4g), same best token in %zu of %zu "
      "rows, KL divergence %.3g\n",
      l.tokens, l.mean_difference, l.max_difference, l.deviation, l.same_top, l.tokens, l.kl);
  if (same) {
    std::printf(
        "the same: all ternary values are equal, scales within 2^-11, other tensors' cosines at least %.2f and "
        "lengths within 1 %%\n",
        kCosine);
  } else {
    std::printf("DIFFERENT: %zu of %zu tensors\n", different, tensors.size());
  }
}

void PrintJson(const Model& a, const Model& b, const std::vector<TensorComparison>& tensors, const LogitComparison& l,
               bool same) {
  json::array list;
  for (const TensorComparison& t : tensors) {
    json::object o{{"name", t.name},     {"type_a", t.type_a},         {"type_b", t.type_b},
                   {"values", t.values}, {"ternary", t.ternary},       {"differing", t.differing},
                   {"cosine", t.cosine}, {"norm_ratio", t.norm_ratio}, {"max_difference", t.max_difference},
                   {"same", Same(t)}};
    if (t.ternary) o["scale_difference"] = t.scale_difference;
    list.push_back(std::move(o));
  }
  const json::object out{{"a", a.gguf().name()},
                         {"b", b.gguf().name()},
                         {"same", same},
                         {"tensors", std::move(list)},
                         {"logits",
                          {{"tokens", l.tokens},
                           {"mean_difference", l.mean_difference},
                           {"max_difference", l.max_difference},
                           {"deviation", l.deviation},
                           {"same_top", l.same_top},
                           {"kl", l.kl}}}};
  std::printf("%s\n", json::serialize(out).c_str());
}

}  // namespace

Status VerifyModels(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b, const VerifyOptions& options,
                    bool* same) {
  WF_ASSIGN(const std::vector<TensorComparison> tensors, CompareWeights(*a, *b));
  WF_ASSIGN(std::vector<int32_t> ids,
            a->tokenizer().Encode(options.text, /*add_special=*/true, /*parse_special=*/false));
  const size_t context = std::min(a->config().context, b->config().context);
  if (ids.size() > context) ids.resize(context);
  WF_ASSIGN(const LogitComparison logits, CompareLogits(a, b, ids, options.threads));
  const bool tokenizers = a->tokenizer().vocab() == b->tokenizer().vocab();
  *same = tokenizers && std::all_of(tensors.begin(), tensors.end(), Same);
  if (!tokenizers) std::fprintf(stderr, "the tokenizers or chat templates are DIFFERENT\n");
  (options.json ? PrintJson : PrintText)(*a, *b, tensors, logits, *same);
  return OkStatus();
}

}  // namespace wf
