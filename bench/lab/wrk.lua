-- SPDX-License-Identifier: Apache-2.0
-- What wrk measured, as the last line of its output: nothing here runs per request.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50.0), latency:percentile(99.0),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
