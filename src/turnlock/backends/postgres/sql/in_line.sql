-- How many stand in line, by session.
SELECT s.agent, s.name, count(*) AS waiters
FROM unnest(%(agents)s::text[], %(names)s::text[]) AS asked (agent, name)
JOIN turnlock.session AS s ON s.agent = asked.agent AND s.name = asked.name
JOIN turnlock.waiter AS w ON w.session_id = s.id
WHERE w.alive_until > turnlock.clock()
GROUP BY s.agent, s.name
