// SPDX-License-Identifier: Apache-2.0
// wf-perplexity: how well a model predicts a text, token after token or filling in masks, and its raw logits for
// comparison with other implementations.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "tools/model_arg.h"
#include "wf/base/mmap.h"
#include "wf/base/thread_pool.h"
#include "wf/cache/kv_pool.h"
#include "wf/decode/likelihood.h"
#include "wf/decode/mode.h"
#include "wf/model/model.h"
#include "wf/model/transformer.h"
#include "wf/version.h"

namespace {

constexpr const char* kProgram = "wf-perplexity";

struct Options {
  wf::ModelArg model;
  std::string file, ids, logits, kv_type = "f16";
  int64_t ctx = 0;
  int threads = 0;
  bool as_json = false;
  // Of --diffusion.
  size_t samples = 0;  // 0: not given
  size_t prompt = 1;
  uint64_t seed = 0;
  std::string style;
  std::optional<int64_t> block_size, mask_token;
  bool show_masks = false;
};

// Sum of the negative log-likelihoods of ids[1..] and how many they are, window by window.
struct Score {
  double nll = 0, squares = 0;
  size_t count = 0;
};

wf::Status Evaluate(wf::Transformer& t, const wf::Model& model, const std::vector<int32_t>& ids, size_t ctx,
                    wf::AtomicFile* out, Score* score, const std::atomic<bool>& stop) {
  constexpr size_t kChunk = 64;  // rows of logits at a time: 33 MB for a vocabulary of 128k
  const size_t vocab = model.config().vocab;
  WF_ASSIGN(wf::KvPool pool, wf::KvPool::Create(t.kv_shape(), (ctx + wf::kKvBlock - 1) / wf::kKvBlock));
  std::vector<uint8_t*> blocks;
  while (blocks.size() < pool.total()) blocks.push_back(pool.Data(pool.Acquire()));
  std::vector<float> logits(std::min(kChunk, ids.size()) * vocab);
  wf::ProgressBar bar(kProgram, ids.size());
  for (size_t window = 0; window < ids.size(); window += ctx) {
    const size_t size = std::min(ctx, ids.size() - window);
    for (size_t at = 0; at < size; at += kChunk) {
      if (stop.load()) return wf::Status(wf::ErrorCode::kCancelled, "interrupted");
      const size_t n = std::min(kChunk, size - at);
      const wf::SequenceRows rows{.tokens = ids.data() + window + at, .count = n, .first = at, .blocks = blocks.data()};
      t.Forward({&rows, 1}, logits.data());
      if (out != nullptr) WF_TRY(out->Write(logits.data(), n * vocab * sizeof(float)));
      for (size_t i = 0; i < n && at + i + 1 < size; ++i) {
        const float* row = logits.data() + i * vocab;
        const double nll = static_cast<double>(t.Softmax(row, nullptr, vocab) - row[ids[window + at + i + 1]]);
        if (!std::isfinite(nll))
          return wf::InternalError("logits are not finite at token " + std::to_string(window + at + i));
        score->nll += nll;
        score->squares += nll * nll;
        ++score->count;
      }
      bar.Update(window + at + n);
    }
  }
  return wf::OkStatus();
}

// What the flags and the model say of masks and attention.
wf::Result<wf::LikelihoodOptions> Resolve(const Options& o, const wf::Model& model) {
  // The mode stands for any that masks: the settings that are read here are common to them.
  wf::DecodeOptions d;
  d.mode = wf::DecodeMode::kIterative;
  d.block_size = o.block_size;
  d.mask_token = o.mask_token;
  if (!o.style.empty()) d.style = wf::DiffusionStyleFromName(o.style);
  if (!d.style && !model.config().diffusion.style) {
    return wf::Unsupported("the model names no diffusion style: --diffusion-style is required");
  }
  if (!d.mask_token && model.tokenizer().vocab().mask_id < 0) {
    return wf::Unsupported("the model has no mask token: --mask-token-id is required");
  }
  WF_ASSIGN(const wf::DecodeSettings s, ResolveDecode(d, model, static_cast<int64_t>(model.config().context)));
  if (s.style == wf::DiffusionStyle::kCausal && o.block_size) {
    return wf::InvalidArgument("--block-size: in style causal nothing depends on blocks");
  }
  return wf::LikelihoodOptions{
      .style = s.style, .block = s.block, .mask = s.mask, .prompt = o.prompt, .samples = o.samples, .seed = o.seed};
}

void PrintLikelihood(const Options& o, const wf::LikelihoodOptions& l, const wf::Likelihood& r, size_t tokens,
                     wf::isa::Id isa) {
  const bool blocks = l.style == wf::DiffusionStyle::kFastDllmV2;
  const double n = static_cast<double>(tokens - l.prompt), mean = r.nll / n, perplexity = std::exp(mean);
  // The standard error, carried to the mean over tokens and to its exponential.
  const double error = r.error.value_or(0), mean_error = error / n;
  if (!o.as_json) {
    std::printf("negative log-likelihood %.4f", r.nll);
    if (r.error) std::printf(" +- %.4f", error);
    std::printf(" nats: %zu tokens after a prompt of %zu, %zu samples weighted by L/n%s, seed %llu\n",
                tokens - l.prompt, l.prompt, l.samples, r.error ? "" : " (one has no standard error)",
                static_cast<unsigned long long>(l.seed));
    std::printf("a token %.6f", mean);
    if (r.error) std::printf(" +- %.6f", mean_error);
    std::printf(", perplexity %.4f", perplexity);
    if (r.error) std::printf(" +- %.4f", perplexity * mean_error);
    std::printf(", style %s", wf::Name(l.style));
    if (blocks) std::printf(", blocks of %zu", l.block);
    std::printf(", mask token %d\n", l.mask);
    return;
  }
  const auto number = [](const char* key, double v, bool known) {
    if (known && std::isfinite(v)) {  // JSON has no infinity

      std::printf(",\"%s\":%.9g", key, v);
    } else {
      std::printf(",\"%s\":null", key);
    }
  };
  std::printf("{\"tokens\":%zu,\"prompt_tokens\":%zu,\"scored\":%zu", tokens, l.prompt, tokens - l.prompt);
  std::printf(",\"style\":\"%s\"", wf::Name(l.style));
  number("block_size", static_cast<double>(l.block), blocks);
  std::printf(",\"mask_token_id\":%d,\"samples\":%zu,\"seed\":%llu,\"weight\":\"L/n\"", l.mask, l.samples,
              static_cast<unsigned long long>(l.seed));
  std::printf(",\"nll\":%.17g", r.nll);
  number("nll_error", error, r.error.has_value());
  number("mean_nll", mean, true);
  number("mean_nll_error", mean_error, r.error.has_value());
  number("perplexity", perplexity, true);
  number("perplexity_error", perplexity * mean_error, r.error.has_value());
  if (o.show_masks) {
    const char* comma = ",\"masks\":[";
    for (const wf::LikelihoodSample& s : r.samples) {
      std::printf("%s{\"nll\":%.17g,\"masked\":", comma, s.nll);
      for (size_t i = 0; i < s.masked.size(); ++i) std::printf("%c%u", i == 0 ? '[' : ',', s.masked[i]);
      std::printf("]}");
      comma = ",";
    }
    std::printf("]");
  }
  std::printf(",\"isa\":\"%s\"}\n", wf::isa::Name(isa));
}

wf::Status Diffusion(const Options& o, wf::Transformer& t, const wf::Model& model, const std::vector<int32_t>& ids,
                     const std::atomic<bool>& stop) {
  WF_ASSIGN(const wf::LikelihoodOptions l, Resolve(o, model));
  wf::Likelihood r;
  {
    wf::ProgressBar bar(kProgram, 0);
    WF_ASSIGN(r, DiffusionLikelihood(t, model, ids, l, [&](size_t done, size_t total) {
                bar.Update(done, total, kProgram);
                return !stop.load();
              }));
  }
  PrintLikelihood(o, l, r, ids.size(), t.isa());
  return wf::OkStatus();
}

wf::Status Run(const Options& o, const std::atomic<bool>& stop) {
  WF_ASSIGN(std::shared_ptr<const wf::Model> model, o.model.Open(kProgram, &stop));
  std::vector<int32_t> ids;
  if (!o.file.empty()) {
    WF_ASSIGN(const wf::MappedFile text, wf::MappedFile::Open(o.file));
    WF_ASSIGN(ids, model->tokenizer().Encode(text.bytes(), /*add_special=*/true, /*parse_special=*/false));
  } else {
    WF_ASSIGN(ids, wf::ParseIds(o.ids));
  }
  const size_t vocab = model->config().vocab, trained = model->config().context;
  for (const int32_t id : ids) {
    if (static_cast<size_t>(id) >= vocab) {
      return wf::InvalidArgument("token id " + std::to_string(id) + ", expected below " + std::to_string(vocab));
    }
  }
  if (ids.empty()) return wf::InvalidArgument("the text has no token");
  const size_t ctx = o.ctx == 0 ? trained : static_cast<size_t>(o.ctx);
  if (ctx > trained) {
    return wf::InvalidArgument("-c " + std::to_string(ctx) + " is above the model's context of " +
                               std::to_string(trained));
  }
  WF_ASSIGN(std::unique_ptr<wf::Transformer> t,
            wf::Transformer::Create(model, o.threads == 0 ? wf::DefaultThreads() : o.threads,
                                    *wf::KvTypeFromName(o.kv_type)));
  if (o.samples != 0) return Diffusion(o, *t, *model, ids, stop);
  Score s;
  if (o.logits.empty()) {
    WF_TRY(Evaluate(*t, *model, ids, ctx, nullptr, &s, stop));
  } else {
    WF_ASSIGN(wf::AtomicFile out, wf::AtomicFile::Create(o.logits));
    WF_TRY(Evaluate(*t, *model, ids, ctx, &out, &s, stop));
    WF_TRY(out.Commit());
  }
  const double n = static_cast<double>(s.count), mean = s.count != 0 ? s.nll / n : 0;
  // Standard error of the mean, carried to the exponential.
  const double error = s.count > 1 ? std::sqrt(std::max(0.0, s.squares / n - mean * mean) / (n - 1)) : 0;
  if (o.as_json) {
    std::printf(
        "{\"tokens\":%zu,\"scored\":%zu,\"mean_nll\":%.9g,\"perplexity\":%.9g,\"perplexity_error\":%.9g,\"context\":%"
        "zu,\"isa\":\"%s\",\"selftest_ms\":%.3f,\"selftest_values\":%zu}\n",
        ids.size(), s.count, mean, std::exp(mean), std::exp(mean) * error, ctx, wf::isa::Name(t->isa()),
        t->selftest_ms(), t->selftest_count());
  } else if (s.count == 0) {
    std::printf("one token: nothing to predict\n");
  } else {
    std::printf("perplexity %.4f +- %.4f over %zu of %zu tokens, mean negative log-likelihood %.6f, windows of %zu\n",
                std::exp(mean), std::exp(mean) * error, s.count, ids.size(), mean, ctx);
  }
  return wf::OkStatus();
}

int Main(int argc, char** argv) {
  Options o;
  CLI::App app{"Perplexity of a text under a model.", kProgram};
  app.set_version_flag("--version", WF_VERSION_STRING);
  o.model.AddTo(&app);
  auto* source = app.add_option_group("text", "what to score, one of:");
  source->add_option("-f,--file", o.file, "Text file; gets the tokenizer's BOS rule");
  source->add_option("--ids", o.ids, "Token ids, e.g. 1,2,3: used unchanged");
  source->require_option(1);
  auto* logits = app.add_option("--logits", o.logits,
                                "Write raw logits: float32, one row an id, as many columns as the embedding has rows");
  auto* ctx = app.add_option("-c,--ctx-size", o.ctx, "Window in tokens (default: the model's context)")
                  ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("-t,--threads", o.threads, "Threads (default: physical cores of the affinity mask)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--kv-type", o.kv_type, "Type of the KV cache (i8: with a scale a token and head)")
      ->check(CLI::IsMember({"f16", "f32", "i8"}))
      ->capture_default_str();
  auto* json = app.add_flag("--json", o.as_json, "Print one JSON object");
  auto* group = app.add_option_group("block diffusion");
  auto* diffusion =
      group
          ->add_option(
              "--diffusion", o.samples,
              "Monte-Carlo likelihood of a model that fills in masks, from so many samples (128 if none are said). In "
              "sample k of N, n = max(1, floor(k L/N)) of the L tokens after the prompt are masked at random, and the "
              "sum of their cross-entropies, each from the row before, is divided by n/L (not by k/N); the estimate is "
              "the samples' mean. The text must fit into the model's context")
          ->expected(0, 1)
          ->default_str("128")
          ->check(CLI::Range(size_t{1}, wf::kMaxLikelihoodSamples))
          ->excludes(logits, ctx);
  group->add_option("--prompt-tokens", o.prompt, "First tokens of the text, that are never masked: at least one")
      ->check(CLI::Range(size_t{1}, size_t{1} << 30))
      ->capture_default_str()
      ->needs(diffusion);
  group->add_option("--seed", o.seed, "Seed of the masks")
      ->check(CLI::Range(int64_t{0}, INT64_MAX))
      ->capture_default_str()
      ->needs(diffusion);
  group->add_option("--diffusion-style", o.style, "How rows attend (default: the model's)")
      ->check(CLI::IsMember({wf::Name(wf::DiffusionStyle::kFastDllmV2), wf::Name(wf::DiffusionStyle::kCausal)}))
      ->needs(diffusion);
  group
      ->add_option("--block-size", o.block_size,
                   "Tokens of a block in style fast-dllm-v2 (default: the model's, or 32)")
      ->needs(diffusion);
  group->add_option("--mask-token-id", o.mask_token, "The mask (default: the model's)")->needs(diffusion);
  group->add_flag("--masks", o.show_masks, "Add `masks` to the JSON: each sample's positions and its estimate")
      ->needs(diffusion, json);
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  const wf::Status status = Run(o, *wf::CatchInterrupts());
  return status.ok() ? wf::kExitOk : wf::Fail(kProgram, status);
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
