# Runs PostgreSQL for as long as somebody holds the other end of the pipe on standard input: its end is noticed however
# that process went, kill -9 included. A script, because a test binary cannot start itself again as something else.
#
# Usage: supervisor.sh SOCKET_DIRECTORY LOG POSTGRES [ARGUMENT]...
#   SOCKET_DIRECTORY is removed at the end; empty: there is none.

socket_directory=$1
log=$2
shift 2
umask 077
exec 3<&0 </dev/null >>"$log" 2>&1

# Whoever signals a whole group or session means the process we stand behind, and hears about it through the pipe. Caught
# and not ignored: PostgreSQL would inherit the latter.
trap : HUP INT QUIT TERM

# A session of its own where the system has the tool. The process group we are started in is enough for Ctrl-C.
if command -v setsid >/dev/null 2>&1; then
    set -- setsid "$@"
fi
"$@" 3<&- &
postmaster=$!

# A fast shutdown, asked for again and again because a postmaster that has only just been started does not listen yet.
# After a minute an immediate one: recovery at the next start is better than a server that runs for ever.
(
    trap '' HUP INT QUIT TERM
    read -r line
    nap=
    trap '[ -z "$nap" ] || kill -KILL "$nap"; wait; exit' USR1
    seconds=0
    while [ "$seconds" -lt 60 ]; do
        kill -INT "$postmaster" || exit
        sleep 1 &
        nap=$!
        wait "$nap"
        seconds=$((seconds + 1))
    done
    kill -QUIT "$postmaster"
) <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&-

# A signal that was caught ends `wait` early; 127 means that there is nothing left to wait for.
wait "$postmaster"
status=$?
while [ "$status" -ne 127 ] && kill -0 "$postmaster" 2>/dev/null; do
    wait "$postmaster"
    status=$?
done
kill -USR1 "$watcher" && wait "$watcher"
if [ -n "$socket_directory" ]; then
    rm -f "$socket_directory"/.s.PGSQL.*
    rmdir "$socket_directory"
fi
exit "$status"
