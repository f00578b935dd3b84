package wire

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the protocol's own method for old accounts
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
)

// NewNonce is twenty random bytes without zero, which some clients would take
// for the end.
func NewNonce() []byte {
	n := make([]byte, 20)
	_, _ = rand.Read(n)
	for i := range n {
		n[i] = n[i]&0x7f | 1
		if n[i] == '$' {
			n[i]++
		}
	}
	return n
}

// ScrambleSHA2 is the short proof of caching_sha2_password.
func ScrambleSHA2(password, nonce []byte) []byte {
	if len(password) == 0 {
		return nil
	}
	d1 := sha256.Sum256(password)
	d2 := sha256.Sum256(d1[:])
	h := sha256.New()
	h.Write(d2[:])
	h.Write(nonce)
	x := h.Sum(nil)
	subtle.XORBytes(x, x, d1[:])
	return x
}

// DigestSHA2 is what a server remembers of a password to check the short proof.
func DigestSHA2(password []byte) [32]byte {
	d1 := sha256.Sum256(password)
	return sha256.Sum256(d1[:])
}

// CheckSHA2 tells whether proof was made with the password behind digest.
func CheckSHA2(proof, nonce []byte, digest [32]byte) bool {
	if len(proof) != 32 {
		return false
	}
	h := sha256.New()
	h.Write(digest[:])
	h.Write(nonce)
	d1 := h.Sum(nil)
	subtle.XORBytes(d1, d1, proof)
	got := sha256.Sum256(d1)
	return subtle.ConstantTimeCompare(got[:], digest[:]) == 1
}

// ScrambleNative is the proof of mysql_native_password.
func ScrambleNative(password, nonce []byte) []byte {
	if len(password) == 0 {
		return nil
	}
	d1 := sha1.Sum(password) //nolint:gosec // see the import
	d2 := sha1.Sum(d1[:])    //nolint:gosec // see the import
	h := sha1.New()          //nolint:gosec // see the import
	h.Write(nonce)
	h.Write(d2[:])
	x := h.Sum(nil)
	subtle.XORBytes(x, x, d1[:])
	return x
}

// mix lays the nonce over a password, so that the same password never looks the
// same under one key.
func mix(p, nonce []byte) []byte {
	out := make([]byte, len(p))
	for i := range p {
		out[i] = p[i] ^ nonce[i%len(nonce)]
	}
	return out
}

// SealPassword encrypts a password with the public key a server sent.
func SealPassword(password, nonce, pemKey []byte) ([]byte, error) {
	block, _ := pem.Decode(pemKey)
	if block == nil {
		return nil, ErrMalformed
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(*rsa.PublicKey)
	if !ok || len(nonce) == 0 {
		return nil, ErrMalformed
	}
	plain := append(append([]byte(nil), password...), 0)
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, mix(plain, nonce), nil) //nolint:gosec // fixed by the protocol
}

// OpenPassword is SealPassword's other side.
func OpenPassword(sealed, nonce []byte, key *rsa.PrivateKey) ([]byte, error) {
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, sealed, nil) //nolint:gosec // fixed by the protocol
	if err != nil {
		return nil, err
	}
	plain = mix(plain, nonce)
	if len(plain) == 0 || plain[len(plain)-1] != 0 {
		return nil, ErrMalformed
	}
	return plain[:len(plain)-1], nil
}

// PublicKeyPEM is the public half of key, as clients want it.
func PublicKeyPEM(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
