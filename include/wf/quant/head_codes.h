// SPDX-License-Identifier: Apache-2.0
// Layout of the coarse copy of an output head: weights as codes 0 .. 63, w ~ s (code - 31.5) with one scale s a row.
// Not a file format: made at run time, to find out which rows of the head need to be computed (kernels/head_scan.h). A
// row is padded to groups of 256 columns of 192 bytes: 128 with the low four bits, 64 with the high two. Column c of a
// group, j = c / 64, i = c % 64, has its low bits in byte (j / 2) * 64 + i (even j: low nibble) and its high bits in
// byte 128 + i at bit 2 j, so that vectors of 64 consecutive columns unpack by shifts and masks alone.
#ifndef WF_QUANT_HEAD_CODES_H_
#define WF_QUANT_HEAD_CODES_H_

#include <cstddef>
#include <cstdint>

namespace wf {

inline constexpr size_t kHeadGroup = 256, kHeadGroupBytes = 192;
inline constexpr size_t kHeadMaxK = 65536;   // sums of the scan fit an int32 (head_scan.h)
inline constexpr uint8_t kHeadPadding = 32;  // code of columns that are not there
inline constexpr size_t HeadPaddedK(size_t k) noexcept { return (k + kHeadGroup - 1) / kHeadGroup * kHeadGroup; }
inline constexpr size_t HeadRowBytes(size_t k) noexcept { return HeadPaddedK(k) / kHeadGroup * kHeadGroupBytes; }

// The code of column c of a row.
inline constexpr uint8_t HeadCode(const uint8_t* row, size_t c) noexcept {
  const uint8_t* g = row + c / kHeadGroup * kHeadGroupBytes;
  const size_t j = c % kHeadGroup / 64, i = c % 64;
  const unsigned low = (g[j / 2 * 64 + i] >> (j % 2 * 4)) & 15u, high = (g[128 + i] >> (2 * j)) & 3u;
  return static_cast<uint8_t>(low | high << 4);
}

// One group from its 256 codes.
inline constexpr void PackHeadGroup(const uint8_t* codes, uint8_t* g) noexcept {
  for (size_t i = 0; i < 64; ++i) {
    const unsigned a = codes[i], b = codes[64 + i], c = codes[128 + i], d = codes[192 + i];
    g[i] = static_cast<uint8_t>((a & 15u) | (b & 15u) << 4);
    g[64 + i] = static_cast<uint8_t>((c & 15u) | (d & 15u) << 4);
    g[128 + i] = static_cast<uint8_t>(a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6);
  }
}

}  // namespace wf
#endif  // WF_QUANT_HEAD_CODES_H_
