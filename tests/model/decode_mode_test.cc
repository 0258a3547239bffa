// SPDX-License-Identifier: Apache-2.0
// How a request's settings of decoding, the engine's and the model's are joined, and which of them are refused.
#include <cmath>
#include <string>

#include "tests/catch.h"
#include "tests/model/model_file.h"
#include "wf/decode/mode.h"

namespace {

using wf::DecodeMode;
using wf::DecodeOptions;
using wf::DecodeSettings;

DecodeSettings Good(const DecodeOptions& o, int64_t ctx = 512) {
  const wf::Result<DecodeSettings> s = wf::ResolveDecode(o, *wf::test::Bard(), ctx);
  INFO(s.status().message());
  REQUIRE(s.ok());
  return *s;
}
std::string Bad(const DecodeOptions& o, int64_t ctx = 512, wf::ErrorCode code = wf::ErrorCode::kInvalidArgument) {
  const wf::Result<DecodeSettings> s = wf::ResolveDecode(o, *wf::test::Bard(), ctx);
  REQUIRE_FALSE(s.ok());
  CHECK(s.status().code() == code);
  return s.status().message();
}

}  // namespace

TEST_CASE("a model with diffusion metadata decodes in mode adaptive, with its own settings") {
  const DecodeSettings s = Good({});
  CHECK(s.mode == DecodeMode::kAdaptive);
  CHECK(s.style == wf::DiffusionStyle::kFastDllmV2);
  CHECK(s.block == 32);
  CHECK(s.sub_block == 8);
  CHECK(s.threshold == 0.7f);
  CHECK(s.max_passes == 10);
  CHECK_FALSE(s.block_cache);
  CHECK(s.mask == 2047);
  CHECK(Good({.mode = DecodeMode::kAr}).mode == DecodeMode::kAr);
}

TEST_CASE("settings of block diffusion are checked, and refused in mode ar") {
  CHECK_THAT(Bad({.threshold = 1.5f}), Catch::Matchers::Contains("threshold = 1.5"));
  CHECK_THAT(Bad({.threshold = std::nanf("")}), Catch::Matchers::StartsWith("threshold"));
  CHECK_THAT(Bad({.block_size = 0}), Catch::Matchers::Contains("block_size = 0, expected 1 to 256"));
  CHECK_THAT(Bad({.block_size = 257}), Catch::Matchers::Contains("block_size = 257"));
  CHECK_THAT(Bad({.block_size = 24}),
             Catch::Matchers::Contains("block_size = 24, expected a divisor of the context, 512"));
  CHECK_THAT(Bad({}, 100), Catch::Matchers::Contains("block_size = 32, expected a divisor of the context, 100"));
  CHECK(Good({.style = wf::DiffusionStyle::kCausal, .block_size = 24}, 100).block == 24);
  CHECK_THAT(Bad({.sub_block_size = 5}), Catch::Matchers::Contains("sub_block_size = 5 does not divide"));
  CHECK_THAT(Bad({.sub_block_size = 64}), Catch::Matchers::Contains("sub_block_size = 64, expected 1 to 32"));
  CHECK(Good({.block_size = 4}).sub_block == 4);  // the model's sub-block is for another block
  CHECK_THAT(Bad({.max_passes = 0}), Catch::Matchers::StartsWith("max_passes = 0"));
  CHECK_THAT(Bad({.mask_token = 2048}), Catch::Matchers::Contains("mask_token_id = 2048, expected 0 to 2047"));
  CHECK(Good({.mask_token = 2046}).mask == 2046);
  CHECK(Good({.mode = DecodeMode::kVerify, .drafts = 0}).drafts == size_t{0});
  CHECK_THAT(Bad({.mode = DecodeMode::kVerify, .drafts = 256}), Catch::Matchers::StartsWith("drafts = 256"));
  CHECK_THAT(Bad({.drafts = 3}), Catch::Matchers::Contains("drafts is a setting of mode verify"));
  for (const DecodeOptions& o : {DecodeOptions{.mode = DecodeMode::kAr, .threshold = 0.5f},
                                 DecodeOptions{.mode = DecodeMode::kAr, .block_cache = true}}) {
    CHECK_THAT(Bad(o), Catch::Matchers::Contains("the decode mode is ar"));
  }
}

TEST_CASE("a request goes before the engine, but does not inherit what means nothing to it") {
  const DecodeOptions engine{.mode = DecodeMode::kGreedy, .threshold = 0.9f, .block_size = 64, .sub_block_size = 16};
  CHECK(wf::OverDefaults({}, engine).mode == DecodeMode::kGreedy);
  const DecodeOptions ar = wf::OverDefaults({.mode = DecodeMode::kAr}, engine);
  CHECK(ar.mode == DecodeMode::kAr);
  CHECK_FALSE(ar.threshold.has_value());
  const DecodeOptions mixed = wf::OverDefaults({.mode = DecodeMode::kIterative, .threshold = 0.5f}, engine);
  CHECK(mixed.mode == DecodeMode::kIterative);
  CHECK(mixed.threshold == 0.5f);
  CHECK(mixed.block_size == 64);
  CHECK(mixed.sub_block_size == 16);
  const DecodeOptions other = wf::OverDefaults({.block_size = 8}, engine);
  CHECK(other.block_size == 8);
  CHECK_FALSE(other.sub_block_size.has_value());
}

TEST_CASE("a file's diffusion metadata is checked; styles that are not run are refused by name") {
  wf::test::ModelFile f;
  f.Set("diffusion.style", std::string("causal"));
  f.Set("diffusion.block_size", uint32_t{16});
  f.Set("diffusion.threshold", 0.25f);
  const wf::Result<wf::Config> c = wf::ConfigFromGguf(f.Open());
  REQUIRE(c.ok());
  CHECK(c->diffusion.style == wf::DiffusionStyle::kCausal);
  CHECK(c->diffusion.block_size == 16);
  CHECK(c->diffusion.threshold == 0.25f);
  CHECK_FALSE(c->diffusion.sub_block_size.has_value());
  for (const char* style : {"llada", "dream", "other"}) {
    f.Set("diffusion.style", std::string(style));
    const wf::Status s = wf::ConfigFromGguf(f.Open()).status();
    CHECK(s.code() == wf::ErrorCode::kUnsupported);
    CHECK_THAT(s.message(), Catch::Matchers::Contains(style) && Catch::Matchers::Contains("diffusion.style"));
  }
  f.Set("diffusion.style", std::string("causal"));
  f.Set("diffusion.block_size", uint32_t{512});
  CHECK(wf::ConfigFromGguf(f.Open()).status().code() == wf::ErrorCode::kFormat);
}
