#!/bin/sh
# Prints the SHA-256 of every file in a folder; each ::progress line moves the job's progress bar.
set -eu
cd "$1"
total=$(find . -type f | wc -l)
count=0
find . -type f | sort | while IFS= read -r file; do
    sha256sum -- "$file"
    count=$((count + 1))
    echo "::progress $count/$total ${file#./}"
done
