-- Takes tokens of a rate limit that instances share: the bucket of `bucket.rs`, which explains the arithmetic,
-- and the prefetched tokens of all instances. The text in front of this script defines `now`, in milliseconds.
--
-- An instance may spend prefetched tokens until their lifetime ends. They must not leak out of the bucket before
-- they are spent: the bucket and the prefetched tokens together would then exceed the limit. So the bucket never
-- leaks below the number of tokens that instances may still hold (`held`). Time is divided into rounds, each as long
-- as a lifetime: tokens taken in one round may be held until the end of the next.
--
-- KEYS[1]: the bucket.
-- ARGV[1]: the limit.
-- ARGV[2]: its window, in ms.
-- ARGV[3]: the minimum; fewer tokens serve no waiting request.
-- ARGV[4]: the tokens that all waiting requests need.
-- ARGV[5]: the tokens to prefetch.
-- ARGV[6]: the divisor of what is left that bounds prefetching: 16 allows 1/16.
-- ARGV[7]: the lifetime of prefetched tokens, in ms (`lease` below).
-- ARGV[8]: the floor: a lower bound of the contents of a bucket that does not exist.
-- ARGV[9]: the tokens that were spent without Redis and not reported yet.
-- ARGV[10]: 1 if the floor also applies to an existing bucket. Redis may have lost the bucket, and what other
-- instances have reported since may be less.
-- Returns the tokens taken, the contents of the bucket afterwards, and the leaked part of the next token.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local least, waiting, ahead = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local part, lease = tonumber(ARGV[6]), tonumber(ARGV[7])
local used, leaked, at = math.min(tonumber(ARGV[8]), limit), 0, now
local round, held, held_before = math.floor(now / lease), 0, 0
-- The limit at the last call: the bucket has leaked at its rate until now.
local old_limit, old_window = limit, window

-- A value that cannot be parsed counts as missing: another program may have written it.
local stored = redis.pcall('GET', KEYS[1])
local numbers = {}
for number in string.gmatch(type(stored) == 'string' and stored or '', '%S+') do
    numbers[#numbers + 1] = tonumber(number)
end
local is_there = #numbers == 8
if is_there then
    used, leaked, at, round, held, held_before, old_limit, old_window = unpack(numbers)
    if old_window ~= window then
        -- Rounds had another length.
        round, held, held_before = math.floor(now / lease), held + held_before, 0
    end
end

-- Removes the tokens that leak in `elapsed` ms, down to `floor`. Every division is exact: the remainder, which is
-- exact, is subtracted first.
local function leak(elapsed, floor)
    if elapsed <= 0 then
        return
    end
    local parts, whole = leaked, 0
    if elapsed >= old_window then
        whole = used
    else
        local rest = math.fmod(old_limit, old_window)
        parts = rest * elapsed + leaked
        local unit = math.fmod(parts, old_window)
        whole = (old_limit - rest) / old_window * elapsed + (parts - unit) / old_window
        parts = unit
    end
    if used - whole > floor then
        used, leaked = used - whole, parts
    else
        used, leaked = math.min(used, floor), 0
    end
end

local round_ends, next_ends = (round + 1) * lease, (round + 2) * lease
leak(math.min(now, round_ends) - at, held + held_before)
leak(math.min(now, next_ends) - math.max(at, round_ends), held)
leak(now - math.max(at, next_ends), 0)

local round_now = math.floor(now / lease)
if round_now == round + 1 then
    held, held_before = 0, held
elseif round_now > round + 1 then
    held, held_before = 0, 0
elseif round_now < round then
    -- The clock was set back: held tokens count from now.
    held, held_before = held + held_before, 0
end

if old_window ~= window then
    -- `leaked` had another denominator.
    leaked = 0
end
local floor = tonumber(ARGV[8])
if is_there and ARGV[10] == '1' and used < floor then
    used, leaked = floor, 0
end
used = math.min(used + tonumber(ARGV[9]), limit)
local taken = 0
if limit - used >= least then
    taken = math.min(waiting, limit - used)
    taken = taken + math.min(ahead, math.floor((limit - used - taken) / part))
end
used = used + taken
if taken > 0 then
    -- The minimum is not held: the request that waits for it spends it now.
    held = held + taken - least
end

local text = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    used, leaked, now, round_now, held, held_before, limit, window)
-- The key expires when the bucket is certainly empty, held tokens included.
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', window + 3 * lease))
return {taken, used, leaked}
