#!/usr/bin/env bash
# Run once by the image of PostgreSQL, when it has made its cluster: the service's login, which is no superuser, its
# database, and what only a superuser can take from everybody.
set -euo pipefail
psql=(psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}")
"${psql[@]}" --dbname postgres --set "password=$OWNER_PASSWORD" --file /sql/setup.sql
"${psql[@]}" --dbname tenantry --file /sql/harden.sql
"${psql[@]}" --dbname tenantry --set "password=$PGBOUNCER_PASSWORD" --file /sql/pgbouncer.sql
