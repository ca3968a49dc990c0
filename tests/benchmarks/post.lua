-- wrk posts the files of BENCH_BODIES to the paths of BENCH_PATHS in turn, with the headers of BENCH_HEADERS,
-- and prints its figures as one line of JSON.
local function lines(name)
   local found = {}
   for line in os.getenv(name):gmatch("[^\n]+") do
      found[#found + 1] = line
   end
   return found
end

for _, header in ipairs(lines("BENCH_HEADERS")) do
   local name, value = header:match("^(.-): (.*)$")
   wrk.headers[name] = value
end

local paths, bodies = lines("BENCH_PATHS"), {}
for place, path in ipairs(lines("BENCH_BODIES")) do
   local file = io.open(path, "rb")
   bodies[place] = file:read("*all")
   file:close()
end
wrk.method, wrk.path, wrk.body = "POST", paths[1], bodies[1]

if #paths > 1 then  -- one alone is sent without asking Lua
   local requests, turn = {}, 0
   request = function()
      turn = turn % #paths + 1
      requests[turn] = requests[turn] or wrk.format(nil, paths[turn], nil, bodies[turn])
      return requests[turn]
   end
end

done = function(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
