package keys

import (
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

const awsKey = "awskms:///alias/release"

// awsDesk is a person with a key in AWS KMS, its alias, and the credentials to use it.
func awsDesk(t *testing.T, algorithm string, edits ...func(*awstest.Key)) (*desk, *awstest.Server, string) {
	t.Helper()
	s := awstest.New(t)
	arn := s.AddKey("release", certtest.Key(algorithm), edits...)
	return newDesk(t, s.Environ()...), s, arn
}

// signFaults has the first n calls of Sign fail so.
func signFaults(n int, f awstest.Fault) func(string, int) awstest.Fault {
	return func(op string, i int) awstest.Fault {
		if op == "Sign" && i <= n {
			return f
		}
		return awstest.None
	}
}

// The way of a publisher: a request, a certificate, signatures in both formats that notation accepts.
func TestAWS(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d, s, arn := awsDesk(t, algorithm)
			chain := d.certified(t, awsKey)
			d.signs(t, awsKey, "1", "--chain", chain)
			d.signs(t, arn, "1", "--chain", chain)
			if strings.HasPrefix(algorithm, "RSA") {
				d.signs(t, awsKey, "1", "--chain", d.certified(t, awsKey, "--pkcs1"))
			}
			shown := d.ok(t, "key", "show", awsKey, "--probe", "-o", "json")
			if !strings.Contains(shown.stdout, "awskms:///"+arn) {
				t.Errorf("key show does not say which key the alias means:\n%s", shown.stdout)
			}
			if n := s.Calls("") - s.Calls("Sign") - s.Calls("GetPublicKey"); n != 0 {
				t.Errorf("%d calls that need further permissions", n)
			}
			for _, agent := range s.Agents() {
				if !strings.Contains(agent, "imprint/") {
					t.Errorf("User-Agent %q", agent)
				}
			}
			before := s.Calls("Sign")
			d.refused(t, 3, "key-mismatch", []string{arn}, "sign", d.ref, "--key", awsKey, "--chain",
				d.chainFor(certtest.Key("P-256").Public(), "other"))
			if n := s.Calls("Sign") - before; n != 0 {
				t.Errorf("%d signing calls for a certificate of another key", n)
			}
		})
	}
}

// Without any variable that names an endpoint: the service's own host name, over TLS and through a proxy, its CA named in either way.
func TestAWSEndpointOfItsRegion(t *testing.T) {
	t.Parallel()
	s, w := awstest.New(t), wiretest.New(t)
	w.Serve("kms.us-west-2.amazonaws.com", s)
	arn := s.AddKey("release", certtest.Key("P-384"), func(k *awstest.Key) { k.Region = "us-west-2" })
	credentials := []string{"AWS_ACCESS_KEY_ID=" + awstest.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + awstest.SecretAccessKey}
	d := newDesk(t, append(w.Environ(), credentials...)...)
	d.signs(t, arn, "1", "--chain", d.certified(t, arn)) // the region is in the ARN
	d.env = append(d.env, "SSL_CERT_FILE=/dev/null", "AWS_CA_BUNDLE="+w.CAFile)
	d.signs(t, awsKey+"?region=us-west-2", "1", "--chain", d.certified(t, awsKey+"?region=us-west-2"))
	if refused := w.Refused(); len(refused) > 0 {
		t.Errorf("also asked %q", refused)
	}
	d.env = append(d.env, "AWS_CA_BUNDLE=")
	d.refused(t, 6, "key-unreachable", []string{"certificate", "AWS_CA_BUNDLE"}, "key", "show", arn)
	d.refused(t, 6, "key-unreachable", []string{"https://kms.eu-west-1.amazonaws.com", "proxy", "502 Bad Gateway", "HTTPS_PROXY"}, "key", "show", awsKey+"?region=eu-west-1")
}

// One key is opened once, however many references it signs.
func TestAWSBatch(t *testing.T) {
	t.Parallel()
	d, s, _ := awsDesk(t, "P-256")
	chain := d.certified(t, awsKey)
	args := []string{"sign", "--key", awsKey, "--chain", chain}
	for _, seed := range []string{"a", "b", "c", "d", "e"} {
		args = append(args, d.image(t, seed, seed))
	}
	opened, signed := s.Calls("GetPublicKey"), s.Calls("Sign")
	d.ok(t, args...)
	if n, m := s.Calls("GetPublicKey")-opened, s.Calls("Sign")-signed; n != 1 || m != 5 {
		t.Errorf("%d calls of GetPublicKey and %d of Sign, want 1 and 5", n, m)
	}
}

// --jobs bounds the calls of the service at once, though more artifacts than that are looked up meanwhile.
func TestAWSJobs(t *testing.T) {
	t.Parallel()
	d, s, _ := awsDesk(t, "P-256")
	chain := d.certified(t, awsKey)
	args := []string{"sign", "--key", awsKey, "--chain", chain, "--jobs", "3"}
	for i := range 15 {
		args = append(args, d.image(t, fmt.Sprint("job ", i), fmt.Sprint("j", i)))
	}
	s.Latency(150 * time.Millisecond)
	if d.ok(t, args...); s.Peak() > 3 || s.Peak() < 2 {
		t.Errorf("%d calls at once, want at most 3", s.Peak())
	}
}

// Trouble that passes: the signature is made, once in the registry, and its calls are counted.
func TestAWSTroubleThatPasses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault func(string, int) awstest.Fault
		calls string
	}{
		"F31 throttled twice":             {signFaults(2, awstest.Throttled), "3"},
		"F31 internal error":              {signFaults(1, awstest.Internal), "2"},
		"F31 a proxy's 502":               {signFaults(1, awstest.Gateway), "2"},
		"F33 answer lost after signing":   {signFaults(1, awstest.Lost), "2"},
		"F33 answer broken after signing": {signFaults(1, awstest.Torn), "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := awsDesk(t, "P-256")
			chain := d.certified(t, awsKey)
			calls := s.Calls("Sign")
			s.Fault(func(op string, n int) awstest.Fault { return tt.fault(op, n-calls) })
			o := d.ok(t, "sign", d.ref, "--key", awsKey, "--chain", chain, "-o", "json")
			if got := o.field(t, "keyCalls"); got != tt.calls {
				t.Errorf("%s key calls, want %s", got, tt.calls)
			}
			d.accepted(t, d.ref)
			if pushed, err := judge.Signatures(t.Context(), d.ref); err != nil || len(pushed) != 1 {
				t.Errorf("%d signatures pushed, %v", len(pushed), err)
			}
		})
	}
}

// Trouble that stays: exit code 6, its reason, the calls that it cost, and nothing in the registry.
func TestAWSTroubleThatStays(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault  awstest.Fault // of Sign
		key    string        // "": P-256
		reason string
		calls  string
		says   []string
		slow   bool // by design: one format will do
	}{
		"F31 throttled for ever": {slow: true, fault: awstest.Throttled, reason: "key-throttled", calls: "8", says: []string{"asked 8 times", "quota of kms:Sign in eu-central-1"}},
		"F31 silence":            {slow: true, fault: awstest.Silence, reason: "key-unreachable", calls: "1", says: []string{"no answer within 13s"}},
		"F32 denied":             {fault: awstest.Denied, reason: "key-denied", calls: "1", says: []string{"allow kms:Sign on arn:aws:kms:eu-central-1:"}},
		"expired token":          {fault: awstest.Expired, reason: "key-login-expired", calls: "1", says: []string{"aws sso login"}},
		"F33 answers lost":       {fault: awstest.Lost, reason: "key-unreachable", calls: "3", says: []string{"asked 3 times"}},
		"F34 another key":        {fault: awstest.OtherKey, reason: "key-signature", calls: "1", says: []string{"no signature of the key that was opened"}},
		"wrong salt":             {fault: awstest.LongSalt, key: "RSA-2048", reason: "key-signature", calls: "1", says: []string{"salt is not as long"}},
		"A02 PKCS #1 v1.5":       {fault: awstest.PKCS1, key: "RSA-2048", reason: "key-signature", calls: "1", says: []string{"PKCS #1 v1.5"}},
		"truncated digest":       {fault: awstest.Truncated, reason: "key-signature", calls: "1", says: []string{"no signature of the key that was opened"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			algorithm := tt.key
			if algorithm == "" {
				algorithm = "P-256"
			}
			d, s, _ := awsDesk(t, algorithm)
			chain := d.certified(t, awsKey)
			s.Fault(signFaults(forEver, tt.fault))
			formats := formats
			if tt.slow {
				formats = formats[:1]
			}
			for _, format := range formats {
				before := s.Calls("Sign")
				o := d.refused(t, 6, tt.reason, append(tt.says, "signing with awskms:///arn:aws:kms:"), "sign", d.ref, "--key", awsKey, "--chain", chain,
					"--signature-format", format)
				if got := o.field(t, "keyCalls"); got != tt.calls {
					t.Errorf("%s: %s key calls, want %s\n%s", format, got, tt.calls, o.stdout)
				}
				if o.took > 15*time.Second {
					t.Errorf("%s: it took %v", format, o.took)
				}
				spent(t, tt.calls, s.Calls("Sign")-before)
			}
		})
	}
}

// A key that does not open costs no signature.
func TestAWSKeyThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, tt := range map[string]struct {
		key    string // "": awsKey
		env    []string
		edit   func(*awstest.Key)
		fault  awstest.Fault
		code   int // 0: 6
		reason string
		says   []string
	}{
		"F32 denied":           {fault: awstest.Denied, reason: "key-denied", says: []string{"allow kms:GetPublicKey, and kms:Sign to sign, on alias/release"}},
		"F32 disabled":         {edit: func(k *awstest.Key) { k.State = awstest.Disabled }, reason: "key-unusable", says: []string{"is disabled", "aws kms enable-key"}},
		"F32 pending deletion": {edit: func(k *awstest.Key) { k.State = awstest.PendingDeletion }, reason: "key-unusable", says: []string{"pending deletion", "aws kms cancel-key-deletion"}},
		"expired token":        {fault: awstest.Expired, reason: "key-login-expired", says: []string{"aws sso login"}},
		"wrong region":         {key: awsKey + "?region=us-east-1", reason: "key-not-found", says: []string{"no key alias/release in us-east-1", "?region="}},
		"no region":            {env: []string{"AWS_REGION="}, code: 3, reason: "key-uri", says: []string{"no AWS region", "AWS_REGION"}},
		"no credentials":       {env: []string{"AWS_ACCESS_KEY_ID="}, reason: "key-credentials", says: []string{"no AWS credentials", "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run `aws sso login`"}},
		"no credentials in a job": {env: []string{"AWS_ACCESS_KEY_ID=", "GITHUB_ACTIONS=true"}, reason: "key-credentials",
			says: []string{"no AWS credentials", "id-token: write"}},
		"no profile":      {env: []string{"AWS_PROFILE=nobody"}, reason: "key-credentials", says: []string{`no AWS profile "nobody"`}},
		"closed port":     {env: []string{"AWS_ENDPOINT_URL_KMS=http://" + closed.Addr().String()}, reason: "key-unreachable", says: []string{"connection refused", closed.Addr().String()}},
		"silent endpoint": {env: []string{"AWS_ENDPOINT_URL_KMS=http://" + silent.Addr().String()}, reason: "key-unreachable", says: []string{"no answer within 13s"}},
		"secp256k1": {edit: func(k *awstest.Key) { k.Spec = "ECC_SECG_P256K1" }, code: 3, reason: "key-algorithm",
			says: []string{"ECC_SECG_P256K1", "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521"}},
		"for encryption": {edit: func(k *awstest.Key) { k.Usage, k.Algorithms = "ENCRYPT_DECRYPT", nil }, code: 3, reason: "key-algorithm",
			says: []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY"}},
		"two slashes": {key: "awskms://alias/release", code: 3, reason: "key-uri", says: []string{"awskms:///alias/release"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit := tt.edit
			if edit == nil {
				edit = func(*awstest.Key) {}
			}
			d, s, _ := awsDesk(t, "P-256", edit)
			d.env = append(d.env, tt.env...)
			s.Fault(func(string, int) awstest.Fault { return tt.fault })
			key, code := tt.key, tt.code
			if key == "" {
				key = awsKey
			}
			if code == 0 {
				code = 6
			}
			chain := d.chainFor(certtest.Key("P-256").Public(), "release")
			commands := [][]string{{"sign", d.ref, "--key", key, "--chain", chain}, {"key", "show", key}}
			if strings.HasPrefix(name, "silent") {
				commands = commands[:1] // 13 s each time, twice
			}
			for _, args := range commands {
				o := d.refused(t, code, tt.reason, tt.says, args...)
				if o.took > 15*time.Second {
					t.Errorf("%s took %v", args[0], o.took)
				}
				if strings.Contains(o.stdout+o.stderr, "IMDS") {
					t.Errorf("it speaks of the metadata service of EC2:\n%s", o.stdout)
				}
			}
			if n := s.Calls("Sign"); n != 0 {
				t.Errorf("%d signing calls", n)
			}
		})
	}
}

// Profiles, and the pinned URI of a key as --key next year.
func TestAWSProfile(t *testing.T) {
	t.Parallel()
	d, s, arn := awsDesk(t, "P-256")
	d.env = append(d.env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_ENDPOINT_URL_KMS=", "AWS_REGION=")
	if err := os.Mkdir(d.at("home/.aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.file("home/.aws/config", []byte("[profile release]\nregion = eu-central-1\n"))
	d.file("home/.aws/credentials", []byte("[release]\naws_access_key_id = "+awstest.AccessKeyID+"\naws_secret_access_key = "+awstest.SecretAccessKey+"\n"))
	key := awsKey + "?profile=release&endpoint=" + url.QueryEscape(s.URL)
	chain := d.certified(t, key)
	d.signs(t, key, "1", "--chain", chain)
	pinned := "awskms:///" + arn + "?endpoint=" + url.QueryEscape(s.URL) + "&profile=release"
	if o := d.ok(t, "key", "show", key, "-o", "json"); o.field(t, "id") != pinned {
		t.Errorf("the pinned URI %s is not the id in\n%s", pinned, o.stdout)
	}
	s.MoveAlias("release", s.AddKey("next", certtest.Key("P-256")))
	d.signs(t, pinned, "1", "--chain", chain)
	d.refused(t, 3, "key-mismatch", nil, "sign", d.image(t, "moved", "moved"), "--key", key, "--chain", chain)
}

// Secrets go nowhere: not into what imprint says, in any of its moods, and not into a file.
func TestAWSSecrets(t *testing.T) {
	t.Parallel()
	const secret, token = "c4n4ryS3cr3tAcc3ssK3y/+", "c4n4ryS3ss10nT0k3n"
	d, s, _ := awsDesk(t, "P-256")
	d.env = append(d.env, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_SESSION_TOKEN="+token)
	var said strings.Builder
	run := func(args ...string) {
		o := d.run(t, args...)
		said.WriteString(o.stdout + o.stderr)
	}
	chain := d.certified(t, awsKey)
	for _, f := range []awstest.Fault{awstest.None, awstest.Denied, awstest.Expired, awstest.Skewed, awstest.Page, awstest.OtherKey, awstest.Cut} {
		s.Fault(signFaults(forEver, f))
		run("sign", d.ref, "--key", awsKey, "--chain", chain, "--again")
		run("sign", d.ref, "--key", awsKey, "--chain", chain, "--again", "-o", "json")
	}
	run("doctor", "--key", awsKey)
	if said.Len() == 0 {
		t.Error("nothing was said")
	}
	for _, canary := range []string{secret, token} {
		if strings.Contains(said.String(), canary) {
			t.Errorf("%s is said", canary)
		}
	}
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), secret) || strings.Contains(string(b), token) {
			t.Errorf("a secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
