-- SPDX-License-Identifier: Apache-2.0
-- What wrk measured, as the last line of its output: nothing here runs per request.

-- That the CPU of LAB_CPU had nothing to do since boot; /proc/stat counts in hundredths.
local function idle_seconds()
  local file = io.open("/proc/stat")
  local text = file:read("*a")
  file:close()
  local idle, waiting = text:match("cpu" .. os.getenv("LAB_CPU") .. " %d+ %d+ %d+ (%d+) (%d+)")
  return (idle + waiting) / 100
end

-- Called before the only thread starts: what idles until then, or behind done(), is not the run.
function setup(thread)
  idle_before = idle_seconds()
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "idle_s": %.2f, ' ..
    '"errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50.0), latency:percentile(99.0),
    idle_seconds() - idle_before, failed))
end
