// SPDX-License-Identifier: Apache-2.0
// The bodies of constrained decoding, compiled once for wf::model.
#include "wf/decode/grammar_builder-impl.h"
#include "wf/decode/json_grammar-impl.h"
#include "wf/decode/token_mask-impl.h"
