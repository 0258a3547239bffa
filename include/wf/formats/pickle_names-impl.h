// SPDX-License-Identifier: Apache-2.0
// The names in a pickle: the globals that it may mention (formats.md 7.2), and opcodes for messages.
#ifndef WF_FORMATS_PICKLE_NAMES_IMPL_H_
#define WF_FORMATS_PICKLE_NAMES_IMPL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/formats/pickle.h"

namespace wf::detail {

struct PickleGlobalInfo {
  std::string_view module, name;
  PickleGlobal global;
};
// The first row of a global names it in messages.
inline constexpr PickleGlobalInfo kPickleGlobals[] = {
    {"collections", "OrderedDict", PickleGlobal::kOrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", PickleGlobal::kRebuildTensorV2},
    {"torch._utils", "_rebuild_tensor", PickleGlobal::kRebuildTensor},
    {"torch._utils", "_rebuild_parameter", PickleGlobal::kRebuildParameter},
    {"torch._utils", "_rebuild_parameter_with_state", PickleGlobal::kRebuildParameterWithState},
    {"torch", "FloatStorage", PickleGlobal::kFloatStorage},
    {"torch", "HalfStorage", PickleGlobal::kHalfStorage},
    {"torch", "BFloat16Storage", PickleGlobal::kBFloat16Storage},
    {"torch", "DoubleStorage", PickleGlobal::kDoubleStorage},
    {"torch", "IntStorage", PickleGlobal::kIntStorage},
    {"torch", "LongStorage", PickleGlobal::kLongStorage},
    {"torch", "ShortStorage", PickleGlobal::kShortStorage},
    {"torch", "CharStorage", PickleGlobal::kCharStorage},
    {"torch", "ByteStorage", PickleGlobal::kByteStorage},
    {"torch", "BoolStorage", PickleGlobal::kBoolStorage},
    {"torch.storage", "UntypedStorage", PickleGlobal::kUntypedStorage},
    {"torch.storage", "TypedStorage", PickleGlobal::kTypedStorage},
    {"torch", "float32", PickleGlobal::kDtype},
    {"torch", "float16", PickleGlobal::kDtype},
    {"torch", "bfloat16", PickleGlobal::kDtype},
    {"torch", "float64", PickleGlobal::kDtype},
    {"torch", "int8", PickleGlobal::kDtype},
    {"torch", "int16", PickleGlobal::kDtype},
    {"torch", "int32", PickleGlobal::kDtype},
    {"torch", "int64", PickleGlobal::kDtype},
    {"torch", "uint8", PickleGlobal::kDtype},
    {"torch", "bool", PickleGlobal::kDtype},
    {"torch", "Size", PickleGlobal::kSize},
    {"torch", "device", PickleGlobal::kDevice},
    {"torch.serialization", "_get_layout", PickleGlobal::kGetLayout},
};

inline Result<PickleGlobal> FindPickleGlobal(std::string_view module, std::string_view name) {
  for (const PickleGlobalInfo& g : kPickleGlobals) {
    if (g.module == module && g.name == name) return g.global;
  }
  std::string full(module);
  full += '.';
  full += name;
  return Unsupported("the global " + Quote(full) + " is not allowed: a state dict needs none but tensors");
}

inline const char* PickleGlobalName(PickleGlobal global) {
  for (const PickleGlobalInfo& g : kPickleGlobals) {
    if (g.global == global) return g.name.data();  // a literal
  }
  return "?";
}

struct PickleOpcodeInfo {
  uint8_t code;
  const char* name;
};
inline constexpr PickleOpcodeInfo kPickleOpcodes[] = {
    {0x80, "PROTO"},
    {'}', "EMPTY_DICT"},
    {']', "EMPTY_LIST"},
    {')', "EMPTY_TUPLE"},
    {'(', "MARK"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'q', "BINPUT"},
    {'r', "LONG_BINPUT"},
    {0x94, "MEMOIZE"},
    {'h', "BINGET"},
    {'j', "LONG_BINGET"},
    {'X', "BINUNICODE"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {'U', "SHORT_BINSTRING"},
    {'T', "BINSTRING"},
    {'C', "SHORT_BINBYTES"},
    {'J', "BININT"},
    {'K', "BININT1"},
    {'M', "BININT2"},
    {0x8a, "LONG1"},
    {'G', "BINFLOAT"},
    {'N', "NONE"},
    {0x88, "NEWTRUE"},
    {0x89, "NEWFALSE"},
    {'t', "TUPLE"},
    {0x85, "TUPLE1"},
    {0x86, "TUPLE2"},
    {0x87, "TUPLE3"},
    {'a', "APPEND"},
    {'e', "APPENDS"},
    {'s', "SETITEM"},
    {'u', "SETITEMS"},
    {'c', "GLOBAL"},
    {0x93, "STACK_GLOBAL"},
    {'R', "REDUCE"},
    {'b', "BUILD"},
    {0x81, "NEWOBJ"},
    {'Q', "BINPERSID"},
    {0x95, "FRAME"},
    {'.', "STOP"},
    // Refused, all of them:
    {'i', "INST"},
    {'o', "OBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {'P', "PERSID"},
    {0x92, "NEWOBJ_EX"},
    {'I', "INT"},
    {'L', "LONG"},
    {'F', "FLOAT"},
    {'S', "STRING"},
    {'V', "UNICODE"},
    {0x8b, "LONG4"},
    {'B', "BINBYTES"},
    {0x8e, "BINBYTES8"},
    {'d', "DICT"},
    {'l', "LIST"},
    {'g', "GET"},
    {'p', "PUT"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
};

// E.g. "INST (0x69)"; "0x03" for bytes that are no opcode.
inline std::string PickleOpcodeText(uint8_t code) {
  std::string hex = "0x";
  hex += "0123456789abcdef"[code >> 4];
  hex += "0123456789abcdef"[code & 15];
  for (const PickleOpcodeInfo& o : kPickleOpcodes) {
    if (o.code == code) return std::string(o.name) + " (" + hex + ")";
  }
  return hex;
}

}  // namespace wf::detail
#endif  // WF_FORMATS_PICKLE_NAMES_IMPL_H_
