-- Counts attempts at passwords that fail, of an account and of a client address. Before this text stands
-- what `now` is, in milliseconds.
--
-- KEYS: the subjects, each a set of attempts by their times: `u…` is under way, and `f…` has failed. ARGV:
-- the step (`ask`, `begin`, `fail`, `forgive`); what tells this attempt from others; the window, in ms; how
-- many may fail of each subject.
-- Answers which subject has failed too often, and for how many ms; 0 if none has; -1 if as many are under
-- way as may still fail.
local step, id, window = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- An attempt takes less. One that is under way for longer was not brought to its end, and counts.
local longest = 30000

local answer = {0, 0}
for place, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
    if step == 'fail' or step == 'forgive' then
        redis.call('ZREM', key, 'u' .. id)
        if step == 'fail' then
            -- Also if it began without being counted here.
            redis.call('ZADD', key, now, 'f' .. id)
            redis.call('PEXPIRE', key, window)
        end
    elseif answer[1] == 0 then
        local limit = tonumber(ARGV[3 + place])
        local attempts = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        local failed = {}
        for n = 1, #attempts, 2 do
            local at = tonumber(attempts[n + 1])
            if string.sub(attempts[n], 1, 1) == 'f' or now - at > longest then
                failed[#failed + 1] = at
            end
        end
        if #failed >= limit then
            answer = {place, failed[#failed - limit + 1] + window - now}
        elseif #attempts / 2 >= limit then
            answer = {-1, 0}
        end
    end
end

if step == 'begin' and answer[1] == 0 then
    for _, key in ipairs(KEYS) do
        redis.call('ZADD', key, now, 'u' .. id)
        redis.call('PEXPIRE', key, window)
    end
end
return answer
