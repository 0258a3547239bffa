// SPDX-License-Identifier: Apache-2.0
// Makes a GGUF of random weights in a given shape, for measurements of speed and memory: by default the shape of
// BitNet-b1.58-2B-4T (1.2 GB). The vocabulary is made up: one byte a token, then fillers.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "wf/base/half.h"
#include "wf/decode/sampler.h"
#include "wf/formats/gguf_writer.h"
#include "wf/tokenizer/byte_alphabet.h"

namespace {

struct Shape {
  std::string out;
  uint32_t layers = 30, embedding = 2560, ffn = 6912, heads = 20, kv_heads = 5, vocab = 128256, context = 4096;
  uint64_t seed = 1;
};

class Maker {
 public:
  explicit Maker(const Shape& s) : s_(s), rng_(s.seed) {}

  wf::Status Make() {
    Metadata();
    const uint64_t e = s_.embedding, head = e / s_.heads, kv = head * s_.kv_heads;
    struct Tensor {
      std::string name;
      wf::TensorType type;
      std::vector<uint64_t> ne;
    };
    std::vector<Tensor> tensors = {{"token_embd.weight", wf::TensorType::kF16, {e, s_.vocab}}};
    for (uint32_t i = 0; i < s_.layers; ++i) {
      const std::string b = "blk." + std::to_string(i) + ".";
      for (const auto& [name, k, rows] :
           std::initializer_list<std::tuple<const char*, uint64_t, uint64_t>>{{"attn_q", e, e},
                                                                              {"attn_k", e, kv},
                                                                              {"attn_v", e, kv},
                                                                              {"attn_output", e, e},
                                                                              {"ffn_gate", e, s_.ffn},
                                                                              {"ffn_up", e, s_.ffn},
                                                                              {"ffn_down", s_.ffn, e}}) {
        tensors.push_back({b + name + ".weight", wf::TensorType::kI2_S, {k, rows}});
      }
      for (const auto& [name, n] : std::initializer_list<std::pair<const char*, uint64_t>>{
               {"attn_norm", e}, {"ffn_norm", e}, {"attn_sub_norm", e}, {"ffn_sub_norm", s_.ffn}}) {
        tensors.push_back({b + name + ".weight", wf::TensorType::kF32, {n}});
      }
    }
    tensors.push_back({"output_norm.weight", wf::TensorType::kF32, {e}});
    for (const Tensor& t : tensors) w_.AddTensor(t.name, t.type, t.ne);
    WF_TRY(w_.Begin(s_.out));
    wf::ProgressBar bar("making " + s_.out, tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      uint64_t n = 1;
      for (const uint64_t d : tensors[i].ne) n *= d;
      WF_TRY(Write(tensors[i].type, n));
      bar.Update(i + 1);
    }
    return w_.Finish();
  }

 private:
  void Metadata() {
    const std::string a = "bitnet-b1.58.";
    w_.SetString("general.architecture", "bitnet-b1.58");
    w_.SetString("general.name", "random");
    w_.SetU32(a + "vocab_size", s_.vocab);
    w_.SetU32(a + "context_length", s_.context);
    w_.SetU32(a + "embedding_length", s_.embedding);
    w_.SetU32(a + "block_count", s_.layers);
    w_.SetU32(a + "feed_forward_length", s_.ffn);
    w_.SetU32(a + "attention.head_count", s_.heads);
    w_.SetU32(a + "attention.head_count_kv", s_.kv_heads);
    w_.SetF32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
    w_.SetF32(a + "rope.freq_base", 500000.0f);
    w_.SetString("tokenizer.ggml.model", "gpt2");
    w_.SetString("tokenizer.ggml.pre", "llama-bpe");
    std::vector<std::string> tokens;
    for (int b = 0; b < 256; ++b) tokens.push_back(wf::BytesToAlphabet(std::string(1, static_cast<char>(b))));
    for (uint32_t i = 256; i < s_.vocab; ++i) tokens.push_back("<|" + std::to_string(i) + "|>");
    w_.SetStrings("tokenizer.ggml.tokens", tokens);
    w_.SetStrings("tokenizer.ggml.merges", {});
    w_.SetBool("tokenizer.ggml.add_bos_token", false);
  }

  wf::Status Write(wf::TensorType type, uint64_t n) {
    std::vector<uint8_t> bytes;
    if (type == wf::TensorType::kI2_S) {
      bytes.resize(n / 4 + 32);
      // A byte of four codes 0..2 is a number below 81 in base 3.
      for (uint64_t i = 0; i < n / 4; ++i) {
        uint32_t r = static_cast<uint32_t>(rng_.Next() >> 32) % 81, b = 0;
        for (int j = 0; j < 4; ++j, r /= 3) b = b << 2 | r % 3;
        bytes[i] = static_cast<uint8_t>(b);
      }
      wf::StoreLe(bytes.data() + n / 4, 1.25f);
    } else if (type == wf::TensorType::kF16) {
      bytes.resize(2 * n);
      for (uint64_t i = 0; i < n; ++i) {
        wf::StoreLe(bytes.data() + 2 * i, wf::F16FromF32(static_cast<float>(rng_.Uniform()) - 0.5f));
      }
    } else {
      bytes.resize(4 * n);
      for (uint64_t i = 0; i < n; ++i)
        wf::StoreLe(bytes.data() + 4 * i, 0.75f + 0.5f * static_cast<float>(rng_.Uniform()));
    }
    return w_.WriteTensorData(bytes.data(), bytes.size());
  }

  const Shape& s_;
  wf::Rng rng_;
  wf::GgufWriter w_;
};

}  // namespace

int main(int argc, char** argv) {
  Shape s;
  CLI::App app{"Makes a GGUF with random weights; the shape of BitNet-b1.58-2B-4T unless told otherwise.",
               "wf_make_model"};
  app.add_option("-o,--output", s.out, "File to write")->required();
  app.add_option("--layers", s.layers)->capture_default_str();
  app.add_option("--embedding", s.embedding)->capture_default_str();
  app.add_option("--ffn", s.ffn)->capture_default_str();
  app.add_option("--heads", s.heads)->capture_default_str();
  app.add_option("--kv-heads", s.kv_heads)->capture_default_str();
  app.add_option("--vocab", s.vocab)->capture_default_str();
  app.add_option("--context", s.context)->capture_default_str();
  app.add_option("--seed", s.seed)->capture_default_str();
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  const wf::Status status = Maker(s).Make();
  return status.ok() ? wf::kExitOk : wf::Fail("wf_make_model", status);
}
