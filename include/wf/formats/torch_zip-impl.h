// SPDX-License-Identifier: Apache-2.0
// The zip half of torch_zip.h: archives as lists of views. Not for encrypted or split archives; nothing is unpacked.
#ifndef WF_FORMATS_TORCH_ZIP_IMPL_H_
#define WF_FORMATS_TORCH_ZIP_IMPL_H_

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/torch_zip.h"

namespace wf {

namespace detail {

inline constexpr uint64_t kZipMaxEntries = kCheckpointMaxTensors + 64;  // a storage for each tensor, and the others
inline constexpr uint32_t kZipEnd = 0x06054b50, kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
inline constexpr uint32_t kZipCentral = 0x02014b50, kZipLocal = 0x04034b50;
inline constexpr uint64_t kZipEndBytes = 22, kZip64EndBytes = 56, kZip64LocatorBytes = 20;
inline constexpr uint64_t kZipCentralBytes = 46, kZipLocalBytes = 30;

struct ZipDirectory {
  uint64_t entries = 0, offset = 0, bytes = 0;
};

// From the end of the archive. A comment may follow the end record; it must reach the end of the file.
inline Result<ZipDirectory> FindZipDirectory(std::string_view a) {
  if (a.size() < kZipEndBytes) {
    return FormatError("zip archive truncated, expected >= 22 bytes, found " + std::to_string(a.size()));
  }
  uint64_t end = a.size() - kZipEndBytes;
  const uint64_t first = end > 0xffff ? end - 0xffff : 0;
  const auto found = [&] {
    return LoadLe<uint32_t>(&a[end]) == kZipEnd && LoadLe<uint16_t>(&a[end + 20]) == a.size() - end - kZipEndBytes;
  };
  while (!found()) {
    if (end == first)
      return FormatError("no end of a zip archive's central directory was found: the file is truncated");
    --end;
  }
  ZipDirectory d;
  const uint16_t disk = LoadLe<uint16_t>(&a[end + 4]), start_disk = LoadLe<uint16_t>(&a[end + 6]);
  const uint16_t here = LoadLe<uint16_t>(&a[end + 8]), all = LoadLe<uint16_t>(&a[end + 10]);
  const uint32_t bytes = LoadLe<uint32_t>(&a[end + 12]), offset = LoadLe<uint32_t>(&a[end + 16]);
  d.entries = all;
  d.bytes = bytes;
  d.offset = offset;
  bool one_disk = (disk == 0 || disk == 0xffff) && (start_disk == 0 || start_disk == 0xffff) && here == all;
  uint64_t limit = end;  // the directory ends here
  if (end >= kZip64LocatorBytes && LoadLe<uint32_t>(&a[end - kZip64LocatorBytes]) == kZip64Locator) {
    const uint64_t locator = end - kZip64LocatorBytes;
    const uint64_t record = LoadLe<uint64_t>(&a[locator + 8]);
    if (record > locator || locator - record < kZip64EndBytes || LoadLe<uint32_t>(&a[record]) != kZip64End) {
      return FormatError("expected a ZIP64 end record at offset " + std::to_string(record) + ", found none" +
                         AtOffset(locator));
    }
    one_disk = one_disk && LoadLe<uint32_t>(&a[record + 16]) == 0 && LoadLe<uint32_t>(&a[record + 20]) == 0 &&
               LoadLe<uint64_t>(&a[record + 24]) == LoadLe<uint64_t>(&a[record + 32]);
    d = {LoadLe<uint64_t>(&a[record + 32]), LoadLe<uint64_t>(&a[record + 48]), LoadLe<uint64_t>(&a[record + 40])};
    // The old record repeats what fits it.
    if ((all != 0xffff && all != d.entries) || (bytes != 0xffffffff && bytes != d.bytes) ||
        (offset != 0xffffffff && offset != d.offset)) {
      return FormatError("the archive's two end records contradict each other" + AtOffset(end));
    }
    limit = record;
  } else if (all == 0xffff || bytes == 0xffffffff || offset == 0xffffffff) {
    return FormatError("expected a ZIP64 end record before the end record, found none" + AtOffset(end));
  }
  if (!one_disk) return Unsupported("a zip archive in several parts is not supported" + AtOffset(end));
  if (d.offset > limit || d.bytes > limit - d.offset) {
    return FormatError("central directory of " + std::to_string(d.bytes) + " bytes at offset " +
                       std::to_string(d.offset) + ": expected its end at or before offset " + std::to_string(limit));
  }
  if (d.entries > kZipMaxEntries) {
    return LimitError("zip archive: expected at most " + std::to_string(kZipMaxEntries) + " entries, found " +
                      std::to_string(d.entries));
  }
  if (d.entries > d.bytes / kZipCentralBytes) {
    return FormatError("zip archive: " + std::to_string(d.entries) + " entries do not fit a central directory of " +
                       std::to_string(d.bytes) + " bytes");
  }
  return d;
}

// No absolute path, no backslash, no component "..".
inline bool IsTameZipName(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find_first_of(std::string_view("\\\0", 2)) != name.npos) return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return false;
    begin = end + 1;
  }
  return true;
}

// A central directory's line; sizes and `local` come from its ZIP64 field where they do not fit it.
struct ZipLine {
  std::string_view name;
  uint16_t flags = 0, method = 0;
  uint64_t size = 0, unpacked = 0;  // of the data in the archive; without compression
  uint64_t local = 0;               // offset of the local header
};

inline Status ReadZip64Field(std::string_view extra, uint64_t* size, uint64_t* packed, uint64_t* local) {
  ByteReader in(extra);
  while (in.remaining() >= 4) {
    const uint16_t id = *in.Read<uint16_t>("id"), n = *in.Read<uint16_t>("size");
    WF_ASSIGN(const std::string_view field, in.Bytes(n, "an extra field"));
    if (id != 1) continue;
    ByteReader values(field);
    for (uint64_t* v : {size, packed, local}) {
      if (*v != 0xffffffff) continue;
      WF_ASSIGN(*v, values.Read<uint64_t>("a ZIP64 value"));
    }
    return OkStatus();
  }
  return FormatError("expected a ZIP64 field, found none");
}

inline Result<ZipLine> ReadZipLine(std::string_view a, uint64_t at, uint64_t end, uint64_t* next) {
  if (end - at < kZipCentralBytes || LoadLe<uint32_t>(&a[at]) != kZipCentral) {
    return FormatError("expected an entry of the central directory, found none" + AtOffset(at));
  }
  const uint64_t name = LoadLe<uint16_t>(&a[at + 28]), extra = LoadLe<uint16_t>(&a[at + 30]);
  const uint64_t bytes = kZipCentralBytes + name + extra + LoadLe<uint16_t>(&a[at + 32]);
  if (bytes > end - at) return FormatError("an entry leaves the central directory" + AtOffset(at));
  ZipLine line;
  line.name = a.substr(at + kZipCentralBytes, name);
  const auto fail = [&](Status s) {
    return Status(s.code(), "entry " + Quote(line.name) + ": " + s.message() + AtOffset(at));
  };
  if (!IsTameZipName(line.name)) return fail(FormatError("expected a name that stays in its folder"));
  line.flags = LoadLe<uint16_t>(&a[at + 8]);
  if ((line.flags & 0x2041) != 0) return fail(Unsupported("it is encrypted"));
  line.method = LoadLe<uint16_t>(&a[at + 10]);
  line.size = LoadLe<uint32_t>(&a[at + 20]);
  line.unpacked = LoadLe<uint32_t>(&a[at + 24]);
  line.local = LoadLe<uint32_t>(&a[at + 42]);
  if (line.size == 0xffffffff || line.unpacked == 0xffffffff || line.local == 0xffffffff) {
    const std::string_view field = a.substr(at + kZipCentralBytes + name, extra);
    if (const Status s = ReadZip64Field(field, &line.unpacked, &line.size, &line.local); !s.ok()) return fail(s);
  }
  if (line.method == 0 && line.size != line.unpacked) {
    return fail(FormatError("a stored entry of " + std::to_string(line.size) + " bytes claims to have " +
                            std::to_string(line.unpacked)));
  }
  if (LoadLe<uint16_t>(&a[at + 34]) != 0) return fail(Unsupported("it is in another part of the archive"));
  *next = at + bytes;
  return line;
}

// Where the data of an entry lies; everything must be before `end`, the central directory.
inline Result<ZipEntry> PlaceZipEntry(std::string_view a, const ZipLine& line, uint64_t end) {
  const auto fail = [&](const std::string& what) {
    return FormatError("entry " + Quote(line.name) + ": " + what + AtOffset(line.local));
  };
  if (line.local > end || end - line.local < kZipLocalBytes || LoadLe<uint32_t>(&a[line.local]) != kZipLocal) {
    return fail("expected a local header before the central directory, found none");
  }
  const uint64_t name = LoadLe<uint16_t>(&a[line.local + 26]), extra = LoadLe<uint16_t>(&a[line.local + 28]);
  const uint64_t room = end - line.local - kZipLocalBytes;
  if (name + extra > room || line.size > room - name - extra) {
    return fail("its " + std::to_string(line.size) + " bytes reach beyond offset " + std::to_string(end));
  }
  const std::string_view local_name = a.substr(line.local + kZipLocalBytes, name);
  if (local_name != line.name) return fail("its local header names it " + Quote(local_name));
  const uint16_t method = LoadLe<uint16_t>(&a[line.local + 8]);
  if (method != line.method) {
    return fail("expected compression method " + std::to_string(line.method) + " by the central directory, found " +
                std::to_string(method) + " in its local header");
  }
  // With flag 8 the sizes follow the data, and the header may hold zeros.
  const bool deferred = ((line.flags | LoadLe<uint16_t>(&a[line.local + 6])) & 8) != 0;
  for (const auto& [at, expected] : {std::pair{18, line.size}, std::pair{22, line.unpacked}}) {
    const uint32_t found = LoadLe<uint32_t>(&a[line.local + static_cast<uint64_t>(at)]);
    if (found == expected || found == 0xffffffff || (deferred && found == 0)) continue;
    return fail("expected " + std::to_string(expected) + " bytes by the central directory, found " +
                std::to_string(found) + " in its local header");
  }
  ZipEntry e;
  e.name = line.name;
  e.offset = line.local + kZipLocalBytes + name + extra;
  e.data = a.substr(e.offset, line.size);
  e.method = line.method;
  return e;
}

}  // namespace detail

WF_MODEL_INLINE Result<std::vector<ZipEntry>> ReadZip(std::string_view a) {
  WF_ASSIGN(const detail::ZipDirectory d, detail::FindZipDirectory(a));
  struct Range {
    uint64_t begin, end;
    size_t entry;
  };
  std::vector<ZipEntry> entries;
  std::vector<Range> ranges;
  entries.reserve(d.entries);  // at most a 46th of the archive's bytes
  ranges.reserve(d.entries);
  uint64_t at = d.offset;
  const uint64_t end = d.offset + d.bytes;
  for (uint64_t i = 0; i < d.entries; ++i) {
    WF_ASSIGN(const detail::ZipLine line, detail::ReadZipLine(a, at, end, &at));
    WF_ASSIGN(const ZipEntry e, detail::PlaceZipEntry(a, line, d.offset));
    ranges.push_back({line.local, e.offset + e.data.size(), entries.size()});
    entries.push_back(e);
  }
  if (at != end) {
    return FormatError("central directory: " + std::to_string(end - at) + " bytes after its last entry" +
                       AtOffset(at));
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& x, const Range& y) { return x.begin < y.begin; });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin >= ranges[i - 1].end) continue;
    return FormatError("entry " + Quote(entries[ranges[i].entry].name) + " overlaps entry " +
                       Quote(entries[ranges[i - 1].entry].name) + AtOffset(ranges[i].begin));
  }
  std::sort(entries.begin(), entries.end(), [](const ZipEntry& x, const ZipEntry& y) { return x.name < y.name; });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].name == entries[i - 1].name) {
      return FormatError("entry " + Quote(entries[i].name) + " is in the archive twice");
    }
  }
  return entries;
}

}  // namespace wf
#endif  // WF_FORMATS_TORCH_ZIP_IMPL_H_
