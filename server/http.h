// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 as the API layer sees it: a request that is complete, and a Responder to answer it from any thread.
// Nothing here knows JSON fields or models; nothing outside http.cc and http_session.h knows Boost.Beast.
#ifndef WF_SERVER_HTTP_H_
#define WF_SERVER_HTTP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/status.h"

namespace wf::server {

// Every limit that an outsider can run into.
struct HttpLimits {
  uint64_t body_bytes = 32u << 20;     // larger bodies: 413
  uint32_t header_bytes = 16u << 10;   // longer heads: 431
  uint32_t header_fields = 100;        // more fields: 431; a byte limit alone does not see empty ones
  size_t pipelined_bytes = 64u << 10;  // read ahead of the answer to the request before
  int64_t idle_ms = 75000;             // between requests of one connection
  int64_t header_ms = 10000;           // from a head's first byte to its last: 408
  int64_t body_ms = 30000;             // for a whole body: 408
  int64_t write_ms = 30000;            // a write that makes no progress: the client counts as gone
  int64_t ping_ms = 15000;             // silence of an event stream before a comment line is sent
  int64_t linger_ms = 5000;            // how long what a refused client still sends is read and dropped
  bool half_close_is_gone = true;      // a client that shuts down its sending side has left
};

struct HttpRequest {
  std::string method;                                        // GET for HEAD, too
  std::string path;                                          // percent-encoded, no query, no trailing slash
  std::string query;                                         // without '?'
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;
  std::string id;  // x-request-id: the client's if usable, else ours
  // The first value of a header, empty if absent; `name` in lower case.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string reason;  // empty: the standard phrase
  std::vector<std::pair<std::string, std::string>> headers;
  std::string content_type = "application/json; charset=utf-8";
  std::string body;
};

// The answer to one request. Thread-safe; calls after the answer is complete, or after the client has gone, do
// nothing. A Responder that is dropped before it answered sends a 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void Send(HttpResponse response) = 0;
  // A chunked answer: its head (status, headers, content type), then pieces, then the end. `ping` is written after
  // HttpLimits::ping_ms without a piece; empty: never. End(false) breaks the stream off: the connection is closed
  // without the last chunk, so that the client sees a cut.
  virtual void StartStream(HttpResponse head, std::string ping) = 0;
  virtual void Write(std::string piece) = 0;
  virtual void End(bool complete = true) = 0;
  // Calls `gone` on the session's strand, at most once, if the client leaves before the answer is complete; at once
  // if it has left already. Released when the answer is complete.
  virtual void OnGone(std::function<void()> gone) = 0;
  // Runs `f` on the session's strand: handlers of one connection never run at the same time.
  virtual void Post(std::function<void()> f) = 0;
  virtual void PostAfter(int64_t ms, std::function<void()> f) = 0;
};

// Called on the session's strand (an I/O thread) with a complete request.
using Handler = std::function<void(HttpRequest&&, std::shared_ptr<Responder>)>;
// The body of an error that the HTTP layer itself finds; `path` may be empty if it was not understood.
using ErrorBody =
    std::function<std::string(int status, std::string_view slug, std::string_view message, std::string_view path)>;

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address, or a name that resolves to one
  uint16_t port = 30000;           // 0: any free one
  int threads = 2;
  HttpLimits limits;
  ErrorBody error_body;
};

class HttpServer {
 public:
  HttpServer();
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds, listens and starts the I/O threads. kIo with the address in the message if the port is taken.
  Status Start(HttpOptions options, Handler handler);
  uint16_t port() const noexcept;
  // Answers from now on carry `Connection: close`.
  void CloseAfterAnswers() noexcept;
  // Requests that were handed to the handler and are not answered yet.
  int active() const noexcept;
  // Stops the I/O threads; what is not written is lost. The object must outlive every Responder's users.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The standard reason phrase, "Unknown" if there is none.
const char* ReasonPhrase(int status) noexcept;
// 24 hex digits of the operating system's randomness, for ids.
std::string RandomHex24();
// Decodes %XX; false if a sequence is broken.
bool PercentDecode(std::string_view in, std::string* out);

}  // namespace wf::server
#endif  // WF_SERVER_HTTP_H_
