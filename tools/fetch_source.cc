// SPDX-License-Identifier: Apache-2.0
// The three kinds of remote sources, over the user's own curl and gcloud. What names, URLs and listings say is not
// trusted: names are plain, sizes and hashes are checked by the caller, nothing passes through a shell.
#include "tools/fetch_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "tools/child.h"
#include "tools/model_cache.h"
#include "wf/base/quote.h"

namespace wf {
namespace {

namespace json = boost::json;

bool IsPlain(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.'; }

// What must not appear in an address: it would be read as something else by curl, gcloud or a server, or hide.
Status CheckAddress(const std::string& uri, std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c > '~' || std::string_view("\\\"'@?#*[]{}<>|^`").find(c) != std::string_view::npos) {
      return InvalidArgument(Quote(uri) + ": the character " + Quote({&c, 1}) + " cannot be part of this address");
    }
  }
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find('/'));
    if (part == ".." || part == ".") return InvalidArgument(Quote(uri) + ": " + Quote(part) + " in an address");
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  }
  return OkStatus();
}

std::string Percent(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (IsPlain(c)) {
      out += c;
    } else {
      const std::string hex = Hex({&c, 1});
      out += '%';
      out += hex;
    }
  }
  return out;
}

// As one folder's name.
std::string Flat(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 120)) {
    if (c == '/') {
      out += "--";
    } else {
      out += IsPlain(c) ? c : '_';
    }
  }
  return out;
}

// Stands for a set of files whose source has no revisions.
std::string Fingerprint(const std::string& uri, const std::vector<RemoteFile>& files) {
  std::string text = uri;
  for (const RemoteFile& f : files) {
    text += "\n" + f.name + " " + std::to_string(f.size.value_or(0)) + " " + f.md5 + " " + f.crc32c + " " + f.version;
  }
  return Sha256Hex(text).substr(0, 40);
}

std::string Field(const json::object& o, std::string_view key) {
  const json::value* v = o.if_contains(key);
  if (v == nullptr) return "";
  if (v->is_string()) return std::string(v->get_string());
  if (v->is_uint64()) return std::to_string(v->get_uint64());
  return v->is_int64() ? std::to_string(v->get_int64()) : "";
}

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

std::string FirstLine(std::string_view text) {
  const std::string line = Quote(text.substr(0, text.find('\n')), 300);
  return line.substr(1, line.size() - 2);
}

uint64_t SizeOf(const std::string& path) {
  struct stat s {};
  return ::stat(path.c_str(), &s) == 0 ? static_cast<uint64_t>(s.st_size) : 0;
}

// --- the web, by curl ---------------------------------------------------------------------------------------------

class WebSource : public RemoteSource {
 public:
  WebSource(const std::string& base, std::string token, const std::atomic<bool>* interrupted)
      : RemoteSource(interrupted), secure_(base.starts_with("https://")), token_(std::move(token)) {}

  Result<std::string> Read(const RemoteFile& f) override {
    WF_ASSIGN(Answer a, Curl(f.url, {}));
    if (a.code != 0) return Refused(f.url, a);
    return std::move(a.body);
  }

  Status Download(const RemoteFile& f, const std::string& part, const std::function<Status()>& tick) override {
    for (int attempt = 1;; ++attempt) {
      const uint64_t before = SizeOf(part);
      std::vector<std::string> args = {"--output", part};
      if (before > 0) args.insert(args.end(), {"--continue-at", "-"});
      WF_ASSIGN(const Answer a, Curl(f.url, args, tick));
      if (a.code == 0) return OkStatus();
      const bool no_ranges = before > 0 && (a.code == 33 || a.http == 416);
      if (no_ranges) ::unlink(part.c_str());
      if (SizeOf(part) >= before + (uint64_t{1} << 20)) attempt = 1;
      // Cut, timed out, refused for a moment: CURLE_PARTIAL_FILE, _OPERATION_TIMEDOUT, _SSL_CONNECT_ERROR,
      // _GOT_NOTHING, _SEND_ERROR, _RECV_ERROR, _HTTP2_STREAM.
      const bool passing = a.code == 18 || a.code == 28 || a.code == 35 || a.code == 52 || a.code == 55 ||
                           a.code == 56 || a.code == 92 || a.http == 429 || a.http >= 500;
      if ((!passing && !no_ranges) || attempt >= 4) return Refused(f.url, a);
      for (int i = 0; i < 10 * attempt && passing; ++i) {
        if (interrupted_ != nullptr && *interrupted_) return Status(ErrorCode::kCancelled, "interrupted");
        ::usleep(100000);
      }
    }
  }

 protected:
  struct Answer {
    int code = 0;  // curl's exit code
    int http = 0;
    std::string body, errors;
  };

  Result<Answer> Curl(const std::string& url, const std::vector<std::string>& args,
                      const std::function<Status()>& tick = nullptr) const {
    std::vector<std::string> argv = {"curl", "-q", "--silent", "--show-error", "--fail", "--location"};
    argv.insert(argv.end(), {"--max-redirs", "10", "--globoff", "--proto", secure_ ? "=https" : "=http,https"});
    argv.insert(argv.end(), {"--connect-timeout", "30", "--speed-limit", "1", "--speed-time", "60"});
    argv.insert(argv.end(), {"--config", "-", "--write-out", "\n%{http_code}", "--url", url});
    argv.insert(argv.end(), args.begin(), args.end());
    ChildOptions options;
    if (!token_.empty()) options.input = "header = \"Authorization: Bearer " + token_ + "\"\n";
    options.tick = tick;
    options.interrupted = interrupted_;
    Result<ChildResult> r = RunChild(argv, options);
    if (r.status().code() == ErrorCode::kNotFound) return NotFound(url + ": needs curl, which is not in PATH");
    WF_TRY(r);
    Answer a;
    a.code = r->code;
    a.errors = std::move(r->errors);
    const size_t end = r->output.rfind('\n');
    if (end != std::string::npos) {
      a.http = static_cast<int>(Number(r->output.substr(end + 1)).value_or(0) % 1000);
      a.body = r->output.substr(0, end);
    }
    return a;
  }

  Status Refused(const std::string& url, const Answer& a) const {
    const std::string http = url + ": HTTP " + std::to_string(a.http) + ": ";
    if (a.http == 404 || a.http == 410) return NotFound(http + "no such model, revision or file");
    if (a.http == 401 || a.http == 403) {  // hubs say so of unknown models, too
      return IoError(http + "not there, or no access " +
                     (token_.empty() ? "without a token: set HF_TOKEN to one that may read it" : "with HF_TOKEN"));
    }
    return IoError(url + ": curl failed with code " + std::to_string(a.code) + ": " + FirstLine(a.errors));
  }

 private:
  bool secure_;
  std::string token_;
};

class HubSource : public WebSource {
 public:
  HubSource(std::string endpoint, std::string model, std::string revision, const std::string& token,
            const std::atomic<bool>* interrupted)
      : WebSource(endpoint, token, interrupted), endpoint_(std::move(endpoint)), model_(std::move(model)) {
    listing_url_ = endpoint_ + "/api/models/" + model_ + "/revision/" + Percent(revision) + "?blobs=true";
  }

  Status List() override {
    WF_ASSIGN(const std::string text, Read({"", listing_url_, {}, "", "", "", ""}));
    boost::system::error_code error;
    const json::value v = json::parse(text, error);
    const json::value* siblings = !error && v.is_object() ? v.get_object().if_contains("siblings") : nullptr;
    if (siblings == nullptr || !siblings->is_array()) {
      return FormatError(listing_url_ + ": expected JSON with an array \"siblings\", found " + Quote(text, 60));
    }
    commit_ = Field(v.get_object(), "sha");
    if (commit_.size() < 7 || commit_.size() > 64 || !std::all_of(commit_.begin(), commit_.end(), IsHex)) {
      return FormatError(listing_url_ + ": \"sha\" is " + Quote(commit_) + ", no commit");
    }
    for (const json::value& s : siblings->get_array()) {
      if (!s.is_object()) return FormatError(listing_url_ + ": a sibling is not an object");
      RemoteFile f;
      f.name = Field(s.get_object(), "rfilename");
      WF_TRY(CheckListed(f.name));
      if (!CheckRemoteName(listing_url_, f.name).ok()) continue;  // in a folder below, or nothing that we know
      f.url = endpoint_ + "/" + model_ + "/resolve/" + commit_ + "/" + Percent(f.name);
      f.size = Number(Field(s.get_object(), "size"));
      if (const json::value* lfs = s.get_object().if_contains("lfs"); lfs != nullptr && lfs->is_object()) {
        f.sha256 = Field(lfs->get_object(), "sha256");
        if (f.sha256.size() != 64 || !std::all_of(f.sha256.begin(), f.sha256.end(), IsHex)) {
          return FormatError(listing_url_ + ": " + Quote(f.sha256) + " is no SHA-256 of " + Quote(f.name));
        }
      }
      listing_.push_back(std::move(f));
    }
    return OkStatus();
  }
  std::string Folder(const std::vector<RemoteFile>&) const override { return Flat(model_) + "/" + commit_; }

 private:
  static bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
  // A listing that tries to climb out is not merely ignored: something is wrong with that server.
  Status CheckListed(const std::string& name) const {
    const std::string padded = "/" + name + "/";
    if (name.empty() || name[0] == '/' || name.find('\\') != std::string::npos ||
        padded.find("/../") != std::string::npos || name.find('\0') != std::string::npos) {
      return FormatError(listing_url_ + ": lists the file name " + Quote(name) + ", which leads out of its folder");
    }
    return OkStatus();
  }
  std::string endpoint_, model_, listing_url_, commit_;
};

// A web server's folder cannot be listed: every name is asked for.
class FolderSource : public WebSource {
 public:
  FolderSource(std::string url, const std::atomic<bool>* interrupted)
      : WebSource(url, "", interrupted), url_(std::move(url)) {}

  Status List() override { return OkStatus(); }
  Result<std::optional<RemoteFile>> Find(const std::string& name) override {
    RemoteFile f;
    f.name = name;
    f.url = url_ + "/" + Percent(name);
    WF_ASSIGN(const Answer a, Curl(f.url, {"--head"}));
    if (a.http == 403 || a.http == 404 || a.http == 410) return std::optional<RemoteFile>();  // buckets say 403
    if (a.code != 0) return Refused(f.url, a);
    std::string_view rest = a.body;
    while (!rest.empty()) {  // after redirections the last answer's headers count
      std::string line(rest.substr(0, rest.find('\n')));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      if (line.ends_with('\r')) line.pop_back();
      if (line.starts_with("HTTP/")) f.size.reset(), f.version.clear();
      const size_t colon = line.find(": ");
      std::string key = line.substr(0, colon);
      std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return std::tolower(c); });
      if (colon == std::string::npos) continue;
      if (key == "content-length") f.size = Number(line.substr(colon + 2));
      if (key == "etag" || key == "last-modified") f.version += line.substr(colon + 2) + " ";
    }
    return std::optional<RemoteFile>(std::move(f));
  }
  std::string Folder(const std::vector<RemoteFile>& files) const override {
    return Flat(url_.substr(url_.find("://") + 3)) + "/" + Fingerprint(url_, files);
  }

 private:
  std::string url_;
};

// --- Google Cloud Storage, by gcloud ------------------------------------------------------------------------------

class BucketSource : public RemoteSource {
 public:
  BucketSource(std::string url, const std::atomic<bool>* interrupted)
      : RemoteSource(interrupted), url_(std::move(url)) {}

  Status List() override {
    WF_ASSIGN(const std::string text, Gcloud({"objects", "list", url_ + "/*", "--format=json"}));
    boost::system::error_code error;
    const json::value v = json::parse(text, error);
    if (error || !v.is_array()) {
      return FormatError(url_ + ": expected a JSON array from gcloud, found " + Quote(text, 60));
    }
    const size_t bucket_end = url_.find('/', 5);
    const std::string prefix = bucket_end == std::string::npos ? "" : url_.substr(bucket_end + 1) + "/";
    for (const json::value& o : v.get_array()) {
      if (!o.is_object()) return FormatError(url_ + ": gcloud lists something that is not an object");
      RemoteFile f;
      f.name = Field(o.get_object(), "name");
      if (!f.name.starts_with(prefix)) return FormatError(url_ + ": gcloud lists " + Quote(f.name) + ", not below it");
      f.name.erase(0, prefix.size());
      if (!CheckRemoteName(url_, f.name).ok()) continue;
      f.url = url_ + "/" + f.name;
      f.size = Number(Field(o.get_object(), "size"));
      f.md5 = Field(o.get_object(), "md5_hash");
      f.crc32c = Field(o.get_object(), "crc32c_hash");
      f.version = Field(o.get_object(), "generation");
      listing_.push_back(std::move(f));
    }
    return OkStatus();
  }
  Result<std::string> Read(const RemoteFile& f) override { return Gcloud({"cat", f.url}); }
  // gcloud resumes by itself, from a file of its own beside the part.
  Status Download(const RemoteFile& f, const std::string& part, const std::function<Status()>& tick) override {
    WF_TRY(Gcloud({"cp", f.url, part}, tick));
    return OkStatus();
  }
  std::string Folder(const std::vector<RemoteFile>& files) const override {
    return "gs--" + Flat(url_.substr(5)) + "/" + Fingerprint(url_, files);
  }

 private:
  Result<std::string> Gcloud(const std::vector<std::string>& args,
                             const std::function<Status()>& tick = nullptr) const {
    std::vector<std::string> argv = {"gcloud", "--quiet", "storage"};
    argv.insert(argv.end(), args.begin(), args.end());
    ChildOptions options;
    options.tick = tick;
    options.interrupted = interrupted_;
    Result<ChildResult> r = RunChild(argv, options);
    if (r.status().code() == ErrorCode::kNotFound) return NotFound(url_ + ": needs gcloud, which is not in PATH");
    WF_TRY(r);
    if (r->code == 0) return std::move(r->output);
    return IoError(url_ + ": gcloud storage " + args[0] + " failed with code " + std::to_string(r->code) + ": " +
                   FirstLine(r->errors));
  }
  std::string url_;
};

std::string Environment(const char* name) {
  const char* v = std::getenv(name);
  std::string text = v == nullptr ? "" : v;
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

bool IsLoopback(const std::string& url) {
  return url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:");
}

Result<std::unique_ptr<RemoteSource>> OpenHub(const std::string& uri, const std::atomic<bool>* interrupted) {
  std::string model = uri.substr(5), revision = "main";
  if (const size_t at = model.find('@'); at != std::string::npos) {
    revision = model.substr(at + 1);
    model.erase(at);
  }
  const size_t slash = model.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == model.size() || revision.empty() ||
      model.find('/', slash + 1) != std::string::npos) {
    return InvalidArgument(Quote(uri) + ": expected hf://org/name or hf://org/name@revision");
  }
  WF_TRY(CheckAddress(uri, model));
  WF_TRY(CheckAddress(uri, revision));
  std::string endpoint = Environment("HF_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (endpoint.empty()) endpoint = "https://huggingface.co";
  if (!endpoint.starts_with("https://") && !endpoint.starts_with("http://")) {
    return InvalidArgument("HF_ENDPOINT: expected a URL like https://huggingface.co, found " + Quote(endpoint));
  }
  WF_TRY(CheckAddress("HF_ENDPOINT=" + endpoint, endpoint.substr(endpoint.find("://") + 3)));
  const std::string token = Environment("HF_TOKEN");  // shown in no message
  if (token.size() > 2000 ||
      !std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\'; })) {
    return InvalidArgument("HF_TOKEN contains characters that no token has");
  }
  if (!token.empty() && endpoint.starts_with("http://") && !IsLoopback(endpoint)) {
    return InvalidArgument("HF_TOKEN would go unencrypted to " + endpoint + ": use https:// or unset it");
  }
  return std::unique_ptr<RemoteSource>(std::make_unique<HubSource>(endpoint, model, revision, token, interrupted));
}

}  // namespace

Status CheckRemoteName(const std::string& where, std::string_view name) {
  const bool plain = !name.empty() && name.size() <= 200 && name[0] != '.' && name[0] != '-' &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return IsPlain(c) || c == '+' || c == '=' || c == ',' || c == '~' || c == ' ' || c == '@';
                     });
  return plain ? OkStatus() : FormatError(where + ": " + Quote(name) + " is not a plain file name");
}

Result<std::optional<RemoteFile>> RemoteSource::Find(const std::string& name) {
  for (const RemoteFile& f : listing_) {
    if (f.name == name) return std::optional<RemoteFile>(f);
  }
  return std::optional<RemoteFile>();
}

Result<std::unique_ptr<RemoteSource>> OpenRemote(const std::string& uri, const std::atomic<bool>* interrupted) {
  if (uri.starts_with("hf://")) return OpenHub(uri, interrupted);
  std::string url = uri;
  while (url.ends_with('/')) url.pop_back();
  const size_t start = url.find("://");
  if (start == std::string::npos || start + 3 >= url.size()) {
    return InvalidArgument(Quote(uri) + ": expected hf://org/name, gs://bucket/path or https://host/path");
  }
  WF_TRY(CheckAddress(uri, url.substr(start + 3)));
  if (url.starts_with("gs://")) {
    return std::unique_ptr<RemoteSource>(std::make_unique<BucketSource>(url, interrupted));
  }
  if (url.starts_with("http://") && !IsLoopback(url)) {
    return InvalidArgument(Quote(uri) + ": http:// is only for this machine itself, use https://");
  }
  return std::unique_ptr<RemoteSource>(std::make_unique<FolderSource>(url, interrupted));
}

}  // namespace wf
