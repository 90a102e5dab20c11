-- Takes units of a rate limit that instances share: the bucket of `bucket.rs`, which says how it counts,
-- and what instances have in hand. Before this text stands what `now` is, in milliseconds.
--
-- What an instance takes ahead it may spend until its lease ends. Such units must not leak out of the
-- bucket before they are spent: then the bucket and the hands together would hold more than the limit. So
-- the bucket never leaks below what may be in somebody's hand. Leases are counted by rounds, each as long
-- as a lease: what was taken in one may be in hand until the end of the next.
--
-- KEYS[1]: the bucket. ARGV: the limit; its window, in ms; the least that serves anybody; what is waited
-- for; what is wanted ahead, of which no more is given than a part of what is left (ARGV[6]); a lease, in
-- ms; what the bucket holds at the least if it is not there; what was taken without it; 1 if it holds so
-- much at the least though it is there: what others have told since it was lost may be less.
-- Answers what was taken, what the bucket holds then, and what has leaked of the next unit.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local least, waiting, ahead = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local part, lease = tonumber(ARGV[6]), tonumber(ARGV[7])
local used, leaked, at = math.min(tonumber(ARGV[8]), limit), 0, now
local round, held, held_before = math.floor(now / lease), 0, 0
-- The limit that was in force when it was last asked: until now the bucket has leaked by that.
local old_limit, old_window = limit, window

-- What cannot be read is not there: somebody may have written something else.
local stored = redis.pcall('GET', KEYS[1])
local numbers = {}
for number in string.gmatch(type(stored) == 'string' and stored or '', '%S+') do
    numbers[#numbers + 1] = tonumber(number)
end
local is_there = #numbers == 8
if is_there then
    used, leaked, at, round, held, held_before, old_limit, old_window = unpack(numbers)
    if old_window ~= window then
        -- The rounds were others.
        round, held, held_before = math.floor(now / lease), held + held_before, 0
    end
end

-- No quotient is rounded before it is whole: the remainder, which is exact, is taken off first.
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
    -- The clock went back: what is in hand counts from now.
    held, held_before = held + held_before, 0
end

if old_window ~= window then
    -- The parts of a unit were others.
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
    -- Whoever waits for the least spends it now.
    held = held + taken - least
end

local text = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    used, leaked, now, round_now, held, held_before, limit, window)
-- Until it is empty, whatever is in hand.
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', window + 3 * lease))
return {taken, used, leaked}
