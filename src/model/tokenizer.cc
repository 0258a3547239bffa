// SPDX-License-Identifier: Apache-2.0
// The bodies of the tokenizer, compiled once for wf::model.
#include "wf/tokenizer/bpe-impl.h"
#include "wf/tokenizer/byte_alphabet-impl.h"
#include "wf/tokenizer/nfc-impl.h"
#include "wf/tokenizer/pretokenize-impl.h"
#include "wf/tokenizer/regex-impl.h"
#include "wf/tokenizer/sentencepiece-impl.h"
#include "wf/tokenizer/spm-impl.h"
#include "wf/tokenizer/tokenizer-impl.h"
#include "wf/tokenizer/vocab-impl.h"
#include "wf/tokenizer/vocab_hf-impl.h"
