-- Sessions whose size is not where their last line ends. No statement of ours leaves one.
SELECT s.agent, s.name
FROM turnlock.session AS s
LEFT JOIN LATERAL (
    SELECT e.byte_offset + octet_length(e.line) + 1 AS stop
    FROM turnlock.entry AS e
    WHERE e.session_id = s.id
    ORDER BY e.byte_offset DESC
    LIMIT 1
) AS last ON true
WHERE s.size <> coalesce(last.stop, 0)
ORDER BY s.agent, s.name
