-- wrk posts the body in the file BENCH_BODY as a form, and prints its figures as one line of JSON.
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=bench"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*all")
file:close()

done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
