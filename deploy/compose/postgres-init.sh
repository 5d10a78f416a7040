#!/usr/bin/env bash
# Run once by the image of PostgreSQL, when it has made its cluster: the service's login, which is no superuser, its
# database, and what only a superuser can take from everybody. Passwords are asked for, so they are on no command line and
# in no statement; without a terminal, psql reads the answers from its standard input.
set -euo pipefail
psql=(psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}")
printf '%s\n' "$OWNER_PASSWORD" "$OWNER_PASSWORD" | setsid "${psql[@]}" --dbname postgres --file /sql/setup.sql
"${psql[@]}" --dbname tenantry --file /sql/harden.sql
printf '%s\n' "$PGBOUNCER_PASSWORD" "$PGBOUNCER_PASSWORD" |
    setsid "${psql[@]}" --dbname tenantry --file /sql/pgbouncer.sql
