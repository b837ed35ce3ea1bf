#!/usr/bin/env bash
# Checks the relay's HTTP with curl. Run: tests/clients/curl.sh ws://127.0.0.1:8787
# (directly, because a proxy adds its own headers).
set -u
base=${1:-ws://127.0.0.1:8787}
base=http${base#ws}
failed=0
upgrade=(-H 'Connection: keep-alive, Upgrade' -H 'Upgrade: WebSocket' -H 'Sec-WebSocket-Version: 13'
    -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')

# check NAME PATTERN... -- CURL_ARGUMENTS: the head and body, without carriage returns, must match each pattern.
check() {
    local name=$1 patterns=() pattern answer
    shift
    while [[ $1 != -- ]]; do patterns+=("$1") && shift; done
    shift
    answer=$(curl --http1.1 --silent --include --no-buffer --max-time 5 "$@" | tr -d '\r\0')
    for pattern in "${patterns[@]}"; do
        if ! grep -qiE -- "$pattern" <<<"$answer"; then
            printf 'not ok curl: %s: nothing matches %s in:\n%s\n' "$name" "$pattern" "$answer"
            failed=1
            return
        fi
    done
    echo "ok curl: $name"
}

closing=('^Connection: close$' '^Content-Length: [0-9]+$')
healthy='^\{"status":"healthy","service":"apptuner-relay","version":"[^"]+","timestamp":[0-9]{13}'
invalid_path='Invalid path. Use /desktop/\{sessionId\} or /mobile/\{sessionId\}'

check 'GET /health' '^HTTP/1.1 200' '^Content-Type: application/json' '^Cache-Control: no-store$' "$healthy" \
    "${closing[@]}" -- "$base/health"
check 'HEAD /health' '^HTTP/1.1 200' "${closing[@]}" -- --head "$base/health"
check 'a path for clients without an upgrade' '^HTTP/1.1 426' '^Upgrade: websocket$' 'Expected WebSocket upgrade' \
    '^Connection: upgrade, close$' "${closing[1]}" -- "$base/desktop/abc123"
check 'another path' '^HTTP/1.1 404' "${closing[@]}" -- "$base/nowhere"
check 'a bad session ID' '^HTTP/1.1 404' "${closing[@]}" -- "$base/desktop/a%20b"
check 'another method' '^HTTP/1.1 405' '^Allow: ' "${closing[@]}" -- --request POST --data '{}' "$base/health"
check 'an upgrade to another path' '^HTTP/1.1 400' "$invalid_path" "${closing[@]}" -- "${upgrade[@]}" "$base/tablet/abc"
check 'an upgrade without a key' '^HTTP/1.1 400' "${closing[@]}" -- "${upgrade[@]:0:6}" "$base/desktop/abc123"
check 'an upgrade to version 8' '^HTTP/1.1 426' '^Sec-WebSocket-Version: 13$' '^Connection: upgrade, close$' \
    -- "${upgrade[@]:0:4}" "${upgrade[@]:6}" -H 'Sec-WebSocket-Version: 8' "$base/desktop/abc123"
check 'a head over 16 KiB' '^HTTP/1.1 431' -- -H "X-Long: $(printf '%017000d' 0)" "$base/health"
check 'the head of an upgrade' '^HTTP/1.1 101' '^Upgrade: websocket$' '^Connection: upgrade$' \
    '^Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=$' '"type":"connected","clientType":"desktop","sessionId":"curl"' \
    -- --max-time 1 "${upgrade[@]}" "$base/desktop/curl?from=curl"
check 'a session to be issued' '^HTTP/1.1 201' '^Content-Type: application/json' '^Cache-Control: no-store$' "${closing[@]}" \
    '^\{"sessionId":"[A-Za-z0-9_-]{22}","secret":"[A-Za-z0-9_-]{22}","desktopUrl":"/desktop/[^"]+","mobileUrl":"/mobile/[^"]+","expiresAt":[0-9]{13}\}' \
    -- --request POST "$base/sessions"
check 'an issued session without its secret' '^HTTP/1.1 403' "${closing[@]}" -- "${upgrade[@]}" \
    "$base$(curl --silent --request POST "$base/sessions" | sed 's/.*"mobileUrl":"\([^?]*\)?.*/\1/')"
check 'an issued session with its secret' '^HTTP/1.1 101' '"type":"connected","clientType":"mobile"' \
    -- --max-time 1 "${upgrade[@]}" \
    "$base$(curl --silent --request POST "$base/sessions" | sed 's/.*"mobileUrl":"\([^"]*\)".*/\1/')"
check 'sessions by another method' '^HTTP/1.1 405' '^Allow: POST$' "${closing[@]}" -- "$base/sessions"
exit $failed
