// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters from metadata: defaults, and an error for everything that wf does not run or that cannot be.
#include "wf/model/config.h"

#include <cmath>
#include <limits>
#include <string>

#include "tests/catch.h"
#include "tests/model/model_file.h"

using wf::ConfigFromGguf;
using wf::ErrorCode;
using wf::test::ModelFile;

namespace {

void Refused(const ModelFile& f, ErrorCode code, const std::string& words) {
  const wf::Gguf g = f.Open();
  const auto c = ConfigFromGguf(g);
  REQUIRE_FALSE(c.ok());
  CHECK(c.status().code() == code);
  CHECK_THAT(c.status().message(), Catch::Matchers::Contains(words));
  CHECK_THAT(c.status().message(), Catch::Matchers::StartsWith(g.name() + ": "));
}

wf::Config Read(const ModelFile& f) {
  const auto c = ConfigFromGguf(f.Open());
  INFO(c.status().message());
  REQUIRE(c.ok());
  return *c;
}

}  // namespace

TEST_CASE("a complete file, with the defaults of what it does not say") {
  const wf::Config c = Read(ModelFile());
  CHECK(c.architecture == "bitnet-b1.58");
  CHECK(c.embedding == 64);
  CHECK(c.layers == 1);
  CHECK(c.heads == 2);
  CHECK(c.kv_heads == 1);
  CHECK(c.head_dim == 32);
  CHECK(c.rope_dims == 32);
  CHECK(c.ffn == 96);
  CHECK(c.context == 128);
  CHECK(c.rms_eps == 1e-5f);
  CHECK(c.sub_norm_eps == 1e-5f);
  CHECK(c.rope_base == 10000.0f);
  CHECK(c.rope_scale == 1.0f);
  CHECK(c.attention_scale == 1 / std::sqrt(32.0f));
  CHECK(c.activation == wf::Activation::kRelu2);
  CHECK(c.rope == wf::RopeKind::kNeox);
  CHECK(c.bitlinear);
  CHECK(c.tied_head);
}

TEST_CASE("bitnet is the same graph with SiLU") {
  CHECK(Read(ModelFile(wf::TensorType::kI2_S, "bitnet")).activation == wf::Activation::kSilu);
}

TEST_CASE("values that the file gives are taken") {
  ModelFile f;
  f.Set("attention.sub_norm_epsilon", 1e-6f);
  f.Set("rope.freq_base", 500000.0f);
  f.Set("rope.scaling.factor", 4.0f);
  f.Set("attention.scale", 0.5f);
  f.Set("attention.key_length", uint32_t{16});
  f.Erase("attention.head_count_kv");
  const wf::Config c = Read(f);
  CHECK(c.sub_norm_eps == 1e-6f);
  CHECK(c.rope_base == 500000.0f);
  CHECK(c.rope_scale == 0.25f);
  CHECK(c.attention_scale == 0.5f);
  CHECK(c.head_dim == 16);
  CHECK(c.kv_heads == 2);
}

TEST_CASE("the old name of the RoPE factor, and factors that mean none") {
  ModelFile f;
  f.Set("rope.scale_linear", 8.0f);
  CHECK(Read(f).rope_scale == 0.125f);
  f.Set("rope.scaling.factor", 0.0f);
  CHECK(Read(f).rope_scale == 1.0f);
  f.Set("rope.scaling.factor", 4.0f);
  f.Set("rope.scaling.type", std::string("none"));
  CHECK(Read(f).rope_scale == 1.0f);
}

TEST_CASE("an unknown architecture is named, with those that are known") {
  Refused(ModelFile(wf::TensorType::kI2_S, "mamba"), ErrorCode::kUnsupported, "architecture 'mamba'");
  Refused(ModelFile(wf::TensorType::kI2_S, "mamba"), ErrorCode::kUnsupported, "bitnet-b1.58");
}

TEST_CASE("features that wf does not run are refused by name") {
  ModelFile f;
  SECTION("experts") {
    f.Set("expert_count", uint32_t{8});
    Refused(f, ErrorCode::kUnsupported, "mixture of experts in this architecture");
  }
  SECTION("sliding window") {
    f.Set("attention.sliding_window", uint32_t{64});  // less than the context
    Refused(f, ErrorCode::kUnsupported, "sliding-window attention");
  }
  SECTION("attention that sees what comes") {
    f.Set("attention.causal", false);
    Refused(f, ErrorCode::kUnsupported, "attention.causal");
  }
  SECTION("a factor of attention scores") {
    f.Set("rope.scaling.attn_factor", 0.5f);
    Refused(f, ErrorCode::kUnsupported, "attn_factor");
  }
  SECTION("RoPE scaling") {
    f.Set("rope.scaling.type", std::string("yarn"));
    Refused(f, ErrorCode::kUnsupported, "'yarn'");
  }
  SECTION("embedding model") {
    f.Set("pooling_type", uint32_t{1});
    Refused(f, ErrorCode::kUnsupported, "pooling_type");
  }
  SECTION("an adapter") {
    f.metadata["general.type"] = std::string("adapter");
    Refused(f, ErrorCode::kUnsupported, "'adapter'");
  }
  SECTION("value size") {
    f.Set("attention.value_length", uint32_t{64});
    Refused(f, ErrorCode::kUnsupported, "attention.value_length");
  }
}

TEST_CASE("a missing key is not found, by its full name") {
  for (const char* key : {"embedding_length", "block_count", "attention.head_count", "feed_forward_length",
                          "context_length", "attention.layer_norm_rms_epsilon"}) {
    ModelFile f;
    f.Erase(key);
    Refused(f, ErrorCode::kNotFound, f.Key(key));
  }
}

TEST_CASE("values that no model can have") {
  ModelFile f;
  const char* words = nullptr;
  SECTION("no layers") {
    f.Set("block_count", uint32_t{0});
    words = "block_count = 0, expected 1 to";
  }
  SECTION("too many layers") {
    f.Set("block_count", uint32_t{5000});
    words = "block_count = 5000, expected 1 to 4096";
  }
  SECTION("no heads") {
    f.Set("attention.head_count", uint32_t{0});
    words = "attention.head_count = 0";
  }
  SECTION("no kv heads") {
    f.Set("attention.head_count_kv", uint32_t{0});
    words = "attention.head_count_kv = 0";
  }
  SECTION("heads that do not share evenly") {
    f.Set("attention.head_count", uint32_t{4});
    f.Set("attention.head_count_kv", uint32_t{3});
    words = "4 heads are not a multiple of 3 kv heads";
  }
  SECTION("an embedding that is no multiple") {
    f.Set("attention.head_count", uint32_t{3});
    words = "64 is not a multiple of 3 heads";
  }
  SECTION("an odd head size") {
    f.Set("attention.key_length", uint32_t{33});
    words = "even";
  }
  SECTION("RoPE over a part of the head") {
    f.Set("rope.dimension_count", uint32_t{16});
    words = "expected the head size, 32";
  }
  SECTION("an enormous width") {
    f.Set("embedding_length", uint32_t{0xffffffff});
    words = "embedding_length = 4294967295";
  }
  SECTION("a negative epsilon") {
    f.Set("attention.layer_norm_rms_epsilon", -1.0f);
    words = "layer_norm_rms_epsilon = -1";
  }
  SECTION("an epsilon that is no number") {
    f.Set("attention.layer_norm_rms_epsilon", std::numeric_limits<float>::quiet_NaN());
    words = "layer_norm_rms_epsilon = ";
  }
  SECTION("an infinite RoPE base") {
    f.Set("rope.freq_base", std::numeric_limits<float>::infinity());
    words = "rope.freq_base = inf";
  }
  REQUIRE(words != nullptr);
  Refused(f, ErrorCode::kFormat, words);
}

TEST_CASE("a key of the wrong type names what was expected") {
  ModelFile f;
  f.Set("block_count", std::string("one"));
  const auto c = ConfigFromGguf(f.Open());
  REQUIRE_FALSE(c.ok());
  CHECK_THAT(c.status().message(), Catch::Matchers::Contains("block_count"));
}

TEST_CASE("an attention scale of 0 means that there is none") {
  ModelFile f;
  f.Set("attention.scale", 0.0f);
  const wf::Gguf g = f.Open();
  const auto c = wf::ConfigFromGguf(g);
  REQUIRE(c.ok());
  CHECK(c->attention_scale == 1.0f / std::sqrt(32.0f));
}

TEST_CASE("experts without number are refused before anything is allocated for them") {
  ModelFile f(wf::TensorType::kI2_S, "qwen3moe");
  f.Set("block_count", uint32_t{80});
  f.Set("expert_count", uint32_t{65536});
  f.Set("expert_used_count", uint32_t{1});
  Refused(f, ErrorCode::kLimit, "expert_count = 65536 in 80 layers");
}
