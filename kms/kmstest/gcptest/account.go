package gcptest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

const email = "publisher@project.iam.gserviceaccount.com"

// An account is a service account. Its clients sign their tokens themselves, so that no token service is asked.
type account struct {
	key  *rsa.PrivateKey
	file string
}

func newAccount(t testing.TB) *account {
	t.Helper()
	key := certtest.Key("RSA-2048").(*rsa.PrivateKey) //nolint:errcheck // certtest's contract
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "0123456789abcdef", "private_key": string(certtest.KeyPEM(key)),
		"client_email": email, "client_id": "1", "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "service-account.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return &account{key, file}
}

// Credentials returns the JSON file of a service account that the server knows, for GOOGLE_APPLICATION_CREDENTIALS.
func (s *Server) Credentials() string { return s.account.file }

// check judges what came in the header authorization: exactly one bearer token, signed by the account, for this service, of now.
func (a *account) check(header []string) error {
	if len(header) == 0 {
		return missingToken()
	}
	token, ok := strings.CutPrefix(header[0], "Bearer ")
	if !ok || len(header) != 1 || !a.valid(token) {
		return fail(codes.Unauthenticated, invalidToken,
			&errdetails.ErrorInfo{Reason: "ACCESS_TOKEN_TYPE_UNSUPPORTED", Domain: domain, Metadata: map[string]string{"service": Host}})
	}
	return nil
}

func (a *account) valid(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(&a.key.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Iss, Sub, Aud, Scope string
		Iat, Exp             int64
	}
	if json.Unmarshal(body, &claims) != nil {
		return false
	}
	now := time.Now().Unix()
	ours := claims.Aud == "https://"+Host+"/" || slices.ContainsFunc(strings.Fields(claims.Scope), func(s string) bool {
		return s == "https://www.googleapis.com/auth/cloud-platform" || s == "https://www.googleapis.com/auth/cloudkms"
	})
	return ours && claims.Iss == email && claims.Sub == email && claims.Iat <= now+10 && claims.Exp > now && claims.Exp-claims.Iat <= 3600
}
