#!/usr/bin/env bash
# Makes the certificates of the target `chain` anew, beside this file: a root, an intermediate CA and a client's leaf. Their
# keys are thrown away, so nobody can sign another leaf. Needs openssl 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
keys=$(mktemp -d)
trap 'rm -r "$keys"' EXIT
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$keys/$1.key"; }
# issue NAME ISSUER EXTENSION…
issue() {
    local name=$1 issuer=$2 from=(-x509) words=()
    shift 2
    [ "$issuer" = "$name" ] || from=(-x509 -CA "$keys/$issuer.pem" -CAkey "$keys/$issuer.key")
    for word in "$@"; do words+=(-addext "$word"); done
    openssl req -new "${from[@]}" -key "$keys/$name.key" -subj "/CN=fuzz $name" -days 36500 -sha256 -config /dev/null \
        "${words[@]}" -out "$keys/$name.pem"
    openssl x509 -in "$keys/$name.pem" -outform DER -out "$name.der"
}
for name in root intermediate leaf; do key "$name"; done
issue root root basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign
issue intermediate root basicConstraints=critical,CA:TRUE,pathlen:0 keyUsage=critical,keyCertSign,cRLSign
issue leaf intermediate basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
    extendedKeyUsage=clientAuth,serverAuth subjectAltName=URI:spiffe://td.consul/ns/default/dc/dc1/svc/web
