#!/usr/bin/env bash
# Makes .env beside this file: the passwords and the master key of one installation. Never overwrites one: a database is
# opened by the key it was set up with, and by no other.
set -euo pipefail
umask 077
cd "$(dirname "${BASH_SOURCE[0]}")"
if [[ -e .env ]]; then
    echo "$PWD/.env is there already." >&2
    exit 1
fi
# In hexadecimal, because the passwords stand in URLs.
cat >.env.new <<SETTINGS
POSTGRES_PASSWORD=$(openssl rand -hex 24)
OWNER_PASSWORD=$(openssl rand -hex 24)
PGBOUNCER_PASSWORD=$(openssl rand -hex 24)
MASTER_KEY=$(openssl rand -hex 32)
SETTINGS
mv .env.new .env
echo "Made $PWD/.env. Keep a copy of MASTER_KEY where you keep your most important secret."
