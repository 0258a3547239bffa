// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters of a decoder, read from a GGUF's metadata and checked. Together with the presence of tensors
// (model/weights.h) they say everything about the graph: there is no class per architecture.
#ifndef WF_MODEL_CONFIG_H_
#define WF_MODEL_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/model/diffusion.h"
#include "wf/model/registry.h"

namespace wf {

struct Config {
  std::string architecture;  // general.architecture
  size_t vocab = 0;          // rows of the embedding, and of the logits
  size_t embedding = 0;      // width of the residual stream
  size_t layers = 0;
  size_t heads = 0, kv_heads = 0, head_dim = 0;
  size_t ffn = 0;
  size_t context = 0;  // tokens the model was trained for
  float rms_eps = 0;
  float sub_norm_eps = 0;  // of norms that belong to a projection; rms_eps unless the file says otherwise
  float rope_base = 10000;
  float rope_scale = 1;  // multiplies the angle: 1 / rope.scaling.factor
  size_t rope_dims = 0;  // rotated values of a head, even
  RopeKind rope = RopeKind::kNeox;
  float attention_scale = 0;  // 1 / sqrt(head_dim) unless the file says otherwise
  Activation activation = Activation::kSilu;
  bool bitlinear = false;  // projections quantise their input per token, whatever type their weights are stored in
  bool tied_head = false;  // the embedding is the head even if the file has an output.weight
  bool needs_sub_norms = false;
  bool qk_norm = false;  // RMSNorm of each head of q and k before RoPE

  // Mixture of experts; 0 experts: a dense FFN of width `ffn`.
  size_t experts = 0, experts_used = 0;
  size_t expert_ffn = 0;
  size_t shared_ffn = 0;             // of the expert that every token passes; 0: none
  bool renormalise_experts = false;  // the weights of the experts chosen sum to 1
  float expert_scale = 1;            // multiplies these weights

  DiffusionMetadata diffusion;
};

// kUnsupported for architectures and features that wf does not run, by name; kNotFound for missing keys;
// kFormat for values out of range.
Result<Config> ConfigFromGguf(const Gguf& gguf);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/config-impl.h"
#endif
#endif  // WF_MODEL_CONFIG_H_
