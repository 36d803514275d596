#!/bin/sh
# Dumps a PostgreSQL database into $DUMP_DIR, one file a day, and keeps the newest $DUMP_KEEP of them.
# A second run on the same day replaces that day's dump, so that a repeated attempt does no harm.
set -eu
dump=$DUMP_DIR/$1-$(date -u +%F).dump
mkdir -p "$DUMP_DIR"
trap 'rm -f "$dump.part"' EXIT

# 75 (EX_TEMPFAIL) has the job tried again later: the server is just starting (1), or there is none (2).
pg_isready --quiet || [ $? -gt 2 ] || { echo "the server does not answer" >&2; exit 75; }

echo "::progress 10% dumping $1"
pg_dump --format=custom --file="$dump.part" "$1"
echo "::progress 90% reading it back"
pg_restore --list "$dump.part" > /dev/null
mv "$dump.part" "$dump"

find "$DUMP_DIR" -name "$1-*.dump" | sort -r | tail -n "+$((DUMP_KEEP + 1))" | while IFS= read -r old; do
    rm -- "$old"
    echo "removed $old" >&2
done
printf '{"dump": "%s", "bytes": %d}\n' "$dump" "$(wc -c < "$dump")"
