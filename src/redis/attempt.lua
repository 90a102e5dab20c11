-- Counts failed login attempts of an account and of a client address. The text in front of this script defines
-- `now`, in milliseconds.
--
-- KEYS: the subjects. Each is a sorted set of attempts by time: `u…` is in progress, `f…` has failed.
-- ARGV[1]: the step: `ask`, `begin`, `fail` or `forgive`.
-- ARGV[2]: the id of the attempt.
-- ARGV[3]: the window, in ms.
-- ARGV[4] and following: the number of failures allowed for each subject.
-- Returns the number of the subject that is throttled, and for how many ms; 0 if none is; -1 if as many attempts are
-- in progress as may still fail.
local step, id, window = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- Longest time in progress, in ms. An attempt takes less; one that is in progress for longer was abandoned, and
-- counts as failed.
local longest = 30000

local answer = {0, 0}
for place, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
    if step == 'fail' or step == 'forgive' then
        redis.call('ZREM', key, 'u' .. id)
        if step == 'fail' then
            -- A failure counts even if its begin was not recorded here.
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
