// SPDX-License-Identifier: Apache-2.0
// Files for other programs: what each can load is planned, what it cannot is refused with the reason, and requantising
// a file refuses what converting the checkpoint to it would have.
#include "tests/convert/conversion.h"
#include "tests/convert/plan_helpers.h"
#include "wf/convert/requantise.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::Conversion;
using test::Find;
using test::Get;
using test::MustPlan;
using test::Noise;
using test::WhyNot;

Checkpoint::Sizes Wide() { return {.embedding = 512, .ffn = 512, .heads = 4, .kv_heads = 2, .head_dim = 128}; }
Checkpoint Llama() { return Checkpoint::Of("LlamaForCausalLM", Wide()); }
Checkpoint Bitnet() { return Checkpoint::Of("BitNetForCausalLM", Wide()); }

Checkpoint Change(Checkpoint c, const std::string& key, const std::string& value) {
  c.config[key] = value;
  return c;
}
Checkpoint With(Checkpoint c, const std::string& name, const std::vector<uint64_t>& shape) {
  c.tensors[Checkpoint::Layer(name)] = Bf16(shape, Noise);
  return c;
}
Checkpoint LowRank(const Checkpoint& c) {
  return With(With(c, "mlp.up_proj.lrc_U", {512, 8}), "mlp.up_proj.lrc_V", {512, 8});
}
// Norms and projections in pairs, the norms with an epsilon of their own.
Checkpoint SubLn(Checkpoint c) {
  for (const char* p : {"self_attn.o_proj", "mlp.down_proj"}) {
    c.Rename(Checkpoint::Layer(std::string(p) + ".weight"), Checkpoint::Layer(std::string(p) + ".1.weight"));
    c = With(std::move(c), std::string(p) + ".0.weight", {512});
  }
  return c;
}
Checkpoint BitnetPairs() {
  Checkpoint c = Bitnet();
  c.tensors.erase(Checkpoint::Layer("self_attn.attn_sub_norm.weight"));
  c.tensors.erase(Checkpoint::Layer("mlp.ffn_sub_norm.weight"));
  return SubLn(std::move(c));
}
Checkpoint OddTokenizer(Checkpoint c) {
  std::string& json = c.files["tokenizer.json"];
  const std::string digits = "\\\\p{N}{1,3}";
  for (size_t at = 0; (at = json.find(digits, at)) != std::string::npos;) {
    json.replace(at, digits.size(), "\\\\p{N}{1,5}");
  }
  return c;
}
Checkpoint WideHeads() { return Checkpoint::Of("BitNetForCausalLM", {.embedding = 128, .ffn = 128, .head_dim = 128}); }
constexpr const char* kLlama3 = R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                                    "original_max_position_embeddings": 64})";

TEST_CASE("bitnet.cpp loads bitnet, llama and qwen2 as I2_S, TQ1_0, TQ2_0 or floats") {
  for (const char* name : {"LlamaForCausalLM", "Qwen2ForCausalLM"}) {
    CHECK(MustPlan(Checkpoint::Of(name, Wide()), As(OutType::kAuto, Peer::kBitnetCpp)).options.outtype ==
          OutType::kI2_S);
  }
  const Checkpoint mixtral = Checkpoint::Of("MixtralForCausalLM", Wide());
  CHECK(MustPlan(mixtral, As(OutType::kAuto, Peer::kBitnetCpp)).options.outtype == OutType::kF16);
  for (const OutType t :
       {OutType::kI2_S, OutType::kTQ1_0, OutType::kTQ2_0, OutType::kF16, OutType::kF32, OutType::kBF16}) {
    const ConvertPlan p = MustPlan(Bitnet(), As(t, Peer::kBitnetCpp));
    CHECK(p.config.architecture == "bitnet-b1.58");
    for (const PlannedTensor& tensor : p.tensors) CHECK(tensor.op != ConvertOp::kScaleRest);
  }
  CHECK(MustPlan(Bitnet(), As(OutType::kAuto, Peer::kBitnetCpp)).options.outtype == OutType::kI2_S);
}

TEST_CASE("llama.cpp loads llama, qwen and bitnet as TQ1_0, TQ2_0, Q2_0 or floats") {
  for (const char* name : {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "MixtralForCausalLM",
                           "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"}) {
    INFO(name);
    Checkpoint::Sizes z = Wide();
    z.expert_ffn = z.shared_ffn = 256;
    const Checkpoint c = Checkpoint::Of(name, z);
    for (const OutType t : {OutType::kTQ1_0, OutType::kTQ2_0, OutType::kQ2_0, OutType::kF16, OutType::kF32}) {
      const ConvertPlan p = MustPlan(c, As(t, Peer::kLlamaCpp));
      for (const PlannedTensor& tensor : p.tensors) CHECK(tensor.op != ConvertOp::kScaleRest);
    }
    CHECK(MustPlan(c, As(OutType::kAuto, Peer::kLlamaCpp)).options.outtype == OutType::kTQ2_0);
  }
  ConvertOptions o = As(OutType::kTQ2_0, Peer::kLlamaCpp);
  o.embedding_type = TensorType::kQ4_K;
  o.head_type = TensorType::kQ6_K;
  CHECK(Get(MustPlan(Llama(), o), "output.weight").type == TensorType::kQ6_K);
  Checkpoint c = Bitnet();
  c.config["hidden_act"] = "\"silu\"";
  CHECK(MustPlan(c, As(OutType::kTQ2_0, Peer::kLlamaCpp)).config.architecture == "bitnet");
}

TEST_CASE("ik_llama.cpp loads llama, qwen and both graphs of bitnet as IQ2_BN or floats") {
  for (const char* name : {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "BitNetForCausalLM",
                           "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"}) {
    INFO(name);
    Checkpoint::Sizes z = Wide();
    z.expert_ffn = z.shared_ffn = 512;
    const ConvertPlan p = MustPlan(Checkpoint::Of(name, z), As(OutType::kAuto, Peer::kIk));
    CHECK(p.options.outtype == OutType::kIQ2_BN);
  }
  MustPlan(Llama(), As(OutType::kF16, Peer::kIk));
}

TEST_CASE("what a peer cannot hold is refused with the reason") {
  const Checkpoint mixtral = Checkpoint::Of("MixtralForCausalLM", Wide());
  const struct {
    Checkpoint c;
    ConvertOptions o;
    const char* message;
  } rows[] = {
      {Checkpoint::Of("Qwen3ForCausalLM", Wide()), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: it does not know architecture qwen3"},
      {Bitnet(), As(OutType::kQ2_0, Peer::kBitnetCpp),
       "--for bitnet.cpp: it does not know q2_0; use i2_s, tq2_0, tq1_0, f16, bf16 or f32"},
      {mixtral, As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: its i2_s has one scale for all experts; use a float type"},
      {mixtral, As(OutType::kIQ2_BN, Peer::kIk), "--for ik: its graph of llama with experts computes wrong results"},
      {LowRank(Bitnet()), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: tensor 'model.layers.0.mlp.up_proj.lrc_U': it has no low-rank correction"},
      {BitnetPairs(), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: the sub-norms have epsilon 9.99999997e-07, but it uses rms_norm_eps, 9.99999975e-06"},
      {WideHeads(), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: its graph of bitnet-b1.58 needs hidden_size = heads * head_dim; found 128 and 2 * 128"},
      {Checkpoint(), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: its kernels need rows of whole groups of 128 weights: a K is not a multiple of 128; "
       "--outtype "
       "f16 fits"},
      {With(Bitnet(), "self_attn.q_proj.norm.weight", {512}), As(OutType::kI2_S, Peer::kBitnetCpp),
       "--for bitnet.cpp: tensor 'model.layers.0.self_attn.q_proj.norm.weight': its graph of bitnet-b1.58 has no norm "
       "on "
       "this projection's input"},
      {Bitnet(), As(OutType::kTQ2_0, Peer::kLlamaCpp),
       "--for llama.cpp: it has no graph with relu2: its architecture bitnet applies SiLU"},
      {Llama(), As(OutType::kI2_S, Peer::kLlamaCpp),
       "--for llama.cpp: it does not know i2_s; use tq2_0, tq1_0, q2_0, f16, bf16 or f32"},
      {Llama(), As(OutType::kIQ2_BN, Peer::kLlamaCpp), "--for llama.cpp: it does not know iq2_bn"},
      {Llama(), As(OutType::kSgl, Peer::kLlamaCpp), "--for llama.cpp: it reads GGUF files, not sgl-kernel's format"},
      {LowRank(Llama()), As(OutType::kTQ2_0, Peer::kLlamaCpp), "it has no low-rank correction"},
      {SubLn(Llama()), As(OutType::kTQ2_0, Peer::kLlamaCpp),
       "--for llama.cpp: tensor 'model.layers.0.self_attn.o_proj.0.weight': its graph of llama has no sub-norms"},
      {Change(Checkpoint::Of("Qwen3ForCausalLM", Wide()), "rope_scaling", kLlama3),
       As(OutType::kTQ2_0, Peer::kLlamaCpp),
       "--for llama.cpp: its graph of qwen3 has no rope_freqs (RoPE scaling llama3)"},
      {With(Checkpoint::Of("Qwen2ForCausalLM", Wide()), "self_attn.o_proj.bias", {512}),
       As(OutType::kTQ2_0, Peer::kLlamaCpp),
       "--for llama.cpp: tensor 'model.layers.0.self_attn.o_proj.bias': its graph of qwen2 has no such bias"},
      {Change(Checkpoint::Of("Qwen2MoeForCausalLM"), "norm_topk_prob", "true"), As(OutType::kF16, Peer::kLlamaCpp),
       "--for llama.cpp: norm_topk_prob is true, but its graph of qwen2moe never normalises the weights of the "
       "experts"},
      {Change(Checkpoint::Of("Qwen3MoeForCausalLM"), "norm_topk_prob", "false"), As(OutType::kF16, Peer::kLlamaCpp),
       "--for llama.cpp: norm_topk_prob is false, but its graph of qwen3moe always normalises the weights of the "
       "experts"},
      {Checkpoint::Of("LlamaForCausalLM"), As(OutType::kTQ2_0, Peer::kLlamaCpp),
       "TQ2_0 cannot hold it: K = 64 is not a multiple of 256; --outtype q2_0 fits"},
      {Llama(), As(OutType::kI2_S, Peer::kIk),
       "--for ik: it loads i2_s and computes wrong results from it; use iq2_bn"},
      {Llama(), As(OutType::kTQ2_0, Peer::kIk), "--for ik: it does not know tq2_0; use iq2_bn, f16, bf16 or f32"},
      {Checkpoint::Of("LlamaForCausalLM"), As(OutType::kIQ2_BN, Peer::kIk),
       "--for ik: its kernels need rows of 512 weights at least, the shortest have K = 64; --outtype f16 fits"},
  };
  for (const auto& r : rows) CHECK_THAT(WhyNot(r.c, r.o), Catch::Contains(r.message));
}

TEST_CASE("a tokenizer whose pattern has no name is refused for peers that know names only") {
  const Checkpoint c = OddTokenizer(Llama());
  CHECK(MustPlan(c).vocab.pre.empty());
  CHECK(WhyNot(c, As(OutType::kTQ2_0, Peer::kLlamaCpp)) ==
        "--for llama.cpp: the tokenizer splits words by a pattern that has no name there");
}

// Of requantising a file.
Status Requantise(const std::string& path, TensorType type, Peer peer) {
  RequantiseOptions o;
  o.type = type;
  o.peer = peer;
  return PlanRequantisation(path, o).status();
}

TEST_CASE("a file that a peer's conversion would have refused is not requantised for it either") {
  const Checkpoint qwen2moe = Checkpoint::Of("Qwen2MoeForCausalLM"), qwen3moe = Checkpoint::Of("Qwen3MoeForCausalLM");
  const struct {
    Checkpoint c;
    TensorType type;
    Peer peer;
    const char* message;
  } rows[] = {
      {Checkpoint::Of("Qwen3ForCausalLM", Wide()), TensorType::kI2_S, Peer::kBitnetCpp,
       "--for bitnet.cpp: it does not know architecture qwen3"},
      {Bitnet(), TensorType::kTQ2_0, Peer::kLlamaCpp, "--for llama.cpp: it has no graph with relu2"},
      {Llama(), TensorType::kI2_S, Peer::kIk, "--for ik: it loads i2_s and computes wrong results from it"},
      {Checkpoint::Of("MixtralForCausalLM", Wide()), TensorType::kIQ2_BN, Peer::kIk,
       "--for ik: its graph of llama with experts computes wrong results"},
      {LowRank(Llama()), TensorType::kTQ2_0, Peer::kLlamaCpp,
       "--for llama.cpp: tensor 'blk.0.ffn_up.lrc_u.weight': it has no low-rank correction"},
      {With(Bitnet(), "self_attn.q_proj.norm.weight", {512}), TensorType::kI2_S, Peer::kBitnetCpp,
       "--for bitnet.cpp: tensor 'blk.0.attn_q_norm_in.weight': its graph of bitnet-b1.58 has no norm on this "
       "projection's input"},
      {SubLn(Llama()), TensorType::kTQ2_0, Peer::kLlamaCpp,
       "--for llama.cpp: tensor 'blk.0.attn_sub_norm.weight': its graph of llama has no sub-norms"},
      {With(Checkpoint::Of("Qwen2ForCausalLM", Wide()), "self_attn.o_proj.bias", {512}), TensorType::kTQ2_0,
       Peer::kLlamaCpp, "--for llama.cpp: tensor 'blk.0.attn_output.bias': its graph of qwen2 has no such bias"},
      {Change(Checkpoint::Of("Qwen3ForCausalLM", Wide()), "rope_scaling", kLlama3), TensorType::kTQ2_0, Peer::kLlamaCpp,
       "--for llama.cpp: its graph of qwen3 has no rope_freqs (RoPE scaling llama3)"},
      {BitnetPairs(), TensorType::kI2_S, Peer::kBitnetCpp,
       "--for bitnet.cpp: the sub-norms have epsilon 9.99999997e-07, but it uses "
       "bitnet-b1.58.attention.layer_norm_rms_epsilon, 9.99999975e-06"},
      {Change(qwen2moe, "norm_topk_prob", "true"), TensorType::kF16, Peer::kLlamaCpp,
       "--for llama.cpp: qwen2moe.expert_weights_norm is true, but its graph of qwen2moe never normalises the weights "
       "of the experts"},
      {Change(qwen3moe, "norm_topk_prob", "false"), TensorType::kF16, Peer::kIk,
       "--for ik: qwen3moe.expert_weights_norm is false, but its graph of qwen3moe always normalises the weights of "
       "the experts"},
      {WideHeads(), TensorType::kI2_S, Peer::kBitnetCpp,
       "--for bitnet.cpp: its graph of bitnet-b1.58 needs bitnet-b1.58.embedding_length = heads * head_dim; found 128 "
       "and 2 * 128"},
      {OddTokenizer(Llama()), TensorType::kTQ2_0, Peer::kLlamaCpp,
       "--for llama.cpp: the tokenizer splits words by a pattern that has no name there"},
      {OddTokenizer(Llama()), TensorType::kIQ2_BN, Peer::kIk,
       "--for ik: the tokenizer splits words by a pattern that has no name there"},
  };
  for (const auto& r : rows) {
    const Conversion file(r.c, OutType::kF32);
    INFO(file.report.status().message());
    REQUIRE(file.report.ok());
    const Status s = Requantise(file.output, r.type, r.peer);
    CHECK(s.code() == ErrorCode::kUnsupported);
    CHECK_THAT(s.message(), Catch::Contains(r.message));
    CHECK(Requantise(file.output, r.type, Peer::kNone).message() == "");
  }
}

TEST_CASE("a file that a peer's conversion wrote is requantised for it") {
  const struct {
    const char* name;
    OutType from;
    TensorType to;
    Peer peer;
  } rows[] = {
      {"BitNetForCausalLM", OutType::kI2_S, TensorType::kTQ2_0, Peer::kBitnetCpp},
      {"LlamaForCausalLM", OutType::kI2_S, TensorType::kTQ1_0, Peer::kBitnetCpp},
      {"LlamaForCausalLM", OutType::kTQ2_0, TensorType::kQ2_0, Peer::kLlamaCpp},
      {"Qwen2ForCausalLM", OutType::kF16, TensorType::kTQ2_0, Peer::kLlamaCpp},
      {"Qwen3MoeForCausalLM", OutType::kF32, TensorType::kTQ2_0, Peer::kLlamaCpp},
      {"Qwen2MoeForCausalLM", OutType::kF32, TensorType::kIQ2_BN, Peer::kIk},
      {"BitNetForCausalLM", OutType::kIQ2_BN, TensorType::kIQ2_BN_R4, Peer::kIk},
  };
  for (const auto& r : rows) {
    INFO(r.name);
    Checkpoint::Sizes z = Wide();
    z.expert_ffn = z.shared_ffn = 512;
    const Conversion file(Checkpoint::Of(r.name, z), As(r.from, r.peer));
    CHECK(file.report.status().message() == "");
    CHECK(Requantise(file.output, r.to, r.peer).message() == "");
  }
}

}  // namespace
}  // namespace wf
