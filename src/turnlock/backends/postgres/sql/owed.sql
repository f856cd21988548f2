-- What a claim owed of turns. Of those who held the session for no turn only the last is named, which
-- is added behind: a part of take.sql and of supersede.sql.
jsonb_path_query_array(s.owed, '$[*] ? (@.turnId != null)')
