package awskms_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
)

const (
	someKey    = "aws_access_key_id = " + awstest.AccessKeyID
	someSecret = "aws_secret_access_key = x"
	canary     = "c4n4ryS3cr3t"
)

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func serve(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// stsError is an error as the XML protocol of STS has it.
func stsError(status int, code, message string) http.HandlerFunc {
	return reply(status, "<ErrorResponse><Error><Type>Sender</Type><Code>"+code+"</Code><Message>"+message+
		"</Message></Error><RequestId>1</RequestId></ErrorResponse>")
}

// webIdentity is a profile with the role that a CI job's token stands for, asked for at the given STS.
func webIdentity(token, sts string) []string {
	services := "s" + sts[strings.LastIndex(sts, ":")+1:]
	return []string{"role_arn = arn:aws:iam::111122223333:role/ci", "web_identity_token_file = " + token, "services = " + services, "",
		"[services " + services + "]", "sts =", "  endpoint_url = " + sts}
}

// Without credentials nothing is asked of the key, the error says how one gets them, and that this machine is no EC2 instance is
// no answer.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	web := func(sts string) []string {
		return webIdentity(token, sts)
	}
	sso := []string{"sso_start_url = https://acme.awsapps.com/start", "sso_region = eu-central-1", "sso_account_id = 111122223333", "sso_role_name = sign"}
	imds := func(endpoint string) []string { return []string{"ec2_metadata_service_endpoint = " + endpoint} }
	const none = "no AWS credentials: neither in variables, nor in a profile"
	how := "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run `aws sso login`"
	for name, tt := range map[string]struct {
		profile []string
		code    string
		says    []string
	}{
		"nothing, no instance":     {imds("http://" + listener(t, false)), kms.CodeCredentials, []string{none, how}},
		"nothing, silent address":  {imds("http://" + listener(t, true)), kms.CodeCredentials, []string{none, how}},
		"instance without a role":  {imds(serve(t, http.NotFoundHandler())), kms.CodeCredentials, []string{none, how}},
		"half of a key":            {append(imds("http://"+listener(t, false)), someKey), kms.CodeCredentials, nil},
		"no SSO session":           {[]string{"sso_session = acme", "sso_account_id = 111122223333", "sso_role_name = sign", "", "[sso-session acme]", "sso_region = eu-central-1", "sso_start_url = https://acme.awsapps.com/start"}, kms.CodeExpired, []string{"SSO session has ended", "run `aws sso login --profile p"}},
		"no login session":         {[]string{"login_session = arn:aws:iam::111122223333:user/me"}, kms.CodeExpired, []string{"run `aws login`"}},
		"instance failing":         {imds(serve(t, reply(503, ""))), kms.CodeService, []string{"asked 8 times", "metadata service", "HTTP 503"}},
		"SSO session ended":        {sso, kms.CodeExpired, []string{"SSO session has ended", "run `aws sso login --profile p"}},
		"web identity denied":      {web(serve(t, stsError(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"))), kms.CodeCredentials, []string{"STS says AccessDenied", "trust policy"}},
		"web identity expired":     {web(serve(t, stsError(400, "ExpiredTokenException", "Token expired: current date/time 1 must be before"))), kms.CodeExpired, []string{"Token expired"}},
		"STS not there":            {web("http://" + listener(t, false)), kms.CodeUnreachable, []string{"from STS", "connection refused"}},
		"STS silent":               {web("http://" + listener(t, true)), kms.CodeUnreachable, []string{"no answer within 13s", "waiting for AWS credentials", "check the network"}},
		"STS failing":              {web(serve(t, stsError(500, "InternalFailure", "oops"))), kms.CodeService, []string{"asked 8 times", "STS says InternalFailure"}},
		"token file missing":       {[]string{"role_arn = arn:aws:iam::111122223333:role/ci", "web_identity_token_file = /nowhere/token"}, kms.CodeCredentials, []string{"/nowhere/token"}},
		"credential process fails": {[]string{"credential_process = sh -c 'echo " + canary + "; exit 3'"}, kms.CodeCredentials, []string{"credential_process", "exit status 3", "by hand"}},
		"credential process talks": {[]string{`credential_process = echo '{"SecretAccessKey":"` + canary + `"'`}, kms.CodeCredentials, []string{"credential_process"}},
		"MFA":                      {[]string{"role_arn = arn:aws:iam::111122223333:role/a", "mfa_serial = arn:aws:iam::111122223333:mfa/me", "credential_source = Environment"}, kms.CodeCredentials, []string{"MFA", "AWS_SESSION_TOKEN"}},
		"half a profile":           {[]string{"role_arn = arn:aws:iam::111122223333:role/a", "source_profile = nowhere"}, kms.CodeCredentials, []string{`no AWS profile "nowhere"`}},
		"unknown key":              {[]string{"aws_access_key_id = AKIAWHO", "aws_secret_access_key = " + canary}, kms.CodeExpired, []string{"UnrecognizedClientException", "AWS_ACCESS_KEY_ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && strings.Contains(name, "process") {
				t.Skip("the programs are those of a Unix shell")
			}
			s := awstest.New(t)
			s.AddKey("a", certtest.Key("P-256"))
			begun := time.Now()
			_, err := open(t, "awskms:///alias/a"+at(s)+"&profile="+profile(t, tt.profile...))
			took := time.Since(begun)
			if most := 15 * time.Second; took > most {
				t.Errorf("it took %v", took)
			}
			if strings.HasPrefix(name, "nothing") && took > 3*time.Second {
				t.Errorf("it took %v to find that there is no instance", took)
			}
			wantError(t, err, tt.code, tt.says...)
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
				t.Errorf("a secret is repeated: %v", err)
			}
			if n := s.Calls(""); n != 0 && name != "unknown key" {
				t.Errorf("%d calls without credentials", n)
			}
		})
	}
	_, err := open(t, "awskms:///alias/a?profile=nowhere")
	wantError(t, err, kms.CodeCredentials, `no AWS profile "nowhere"`, "list-profiles")
}

// Where credentials come from in earnest: a role of this machine, a role by a CI job's token, and a program.
func TestCredentials(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	role := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			fmt.Fprint(w, "token")
		case "/latest/meta-data/iam/security-credentials/":
			fmt.Fprint(w, "release")
		default:
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":"x","Token":"t","Expiration":%q}`, awstest.AccessKeyID, expires)
		}
	}))
	refused := 0
	sts := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused++; refused <= 2 {
			stsError(400, "ThrottlingException", "Rate exceeded")(w, r)
			return
		}
		fmt.Fprintf(w, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>x"+
			"</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"+
			"</AssumeRoleWithWebIdentityResponse>", awstest.AccessKeyID, expires)
	}))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"Version":1,"AccessKeyId":%q,"SecretAccessKey":"x"}`, awstest.AccessKeyID))
	for name, lines := range map[string][]string{
		"role of the machine":      {"ec2_metadata_service_endpoint = " + role},
		"role by a token":          webIdentity(token, sts),
		"program":                  {"credential_process = sh -c 'echo " + printed + " | base64 -d'"},
		"program that takes time":  {"credential_process = sh -c 'sleep 14; echo " + printed + " | base64 -d'"},
		"profile with its own key": {someKey, someSecret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && strings.HasPrefix(name, "program") {
				t.Skip("the programs are those of a Unix shell")
			}
			s := awstest.New(t)
			s.AddKey("a", certtest.Key("P-256"))
			k := mustOpen(t, "awskms:///alias/a"+at(s)+"&profile="+profile(t, lines...))
			if _, err := sign(t, k); err != nil {
				t.Error(err)
			}
		})
	}
}

// The region is missed before credentials are.
func TestNoRegion(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	p := profile(t, "ec2_metadata_service_endpoint = http://"+listener(t, false))
	_, err := open(t, "awskms:///alias/a?profile="+p)
	wantError(t, err, kms.CodeURI, "no AWS region", "?region=REGION", "AWS_REGION")
}

// The SDK's own variables, as an unmodified program meets them; some of them once ruined one another.
func TestVariables(t *testing.T) {
	s := awstest.New(t)
	s.AddKey("a", certtest.Key("P-256"))
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, certtest.PEM(certtest.Root("any").Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": bundle, "AWS_ENDPOINT_URL_KMS": s.URL, "AWS_MAX_ATTEMPTS": "5", "AWS_RETRY_MODE": "adaptive", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_DEFAULTS_MODE": "in-region",
	} {
		t.Setenv(name, value)
	}
	k := mustOpen(t, "awskms:///alias/a")
	s.Fault(first(always, awstest.Denied))
	calls, err := sign(t, k)
	if wantError(t, err, kms.CodeDenied, "at "+s.URL); calls != 1 || s.Calls("Sign") != 1 {
		t.Errorf("%d calls counted, %d seen: the SDK repeats them itself", calls, s.Calls("Sign"))
	}
	s.Fault(first(2, awstest.Internal))
	if calls, err := sign(t, k); err != nil || calls != 2 || s.Calls("Sign") != 3 {
		t.Errorf("%v, %d calls counted, %d seen", err, calls, s.Calls("Sign"))
	}
	t.Setenv("AWS_CA_BUNDLE", "/nowhere")
	_, err = open(t, "awskms:///alias/a")
	wantError(t, err, kms.CodeCredentials, "/nowhere", "AWS_CA_BUNDLE")
	t.Setenv("AWS_CA_BUNDLE", bundle)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	for endpoint, code := range map[string]string{
		"http://" + listener(t, false): kms.CodeUnreachable,
		serve(t, reply(403, `{"code":"AccessDenied","message":"no role for this pod"}`)): kms.CodeCredentials,
	} {
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
		_, err = open(t, "awskms:///alias/a")
		wantError(t, err, code, "the endpoint of AWS_CONTAINER_CREDENTIALS")
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
	_, err = open(t, "awskms:///alias/a?endpoint="+url.QueryEscape(s.URL))
	wantError(t, err, kms.CodeCredentials, "no AWS credentials")
}

// TestEndlessCredentials: what is asked for credentials may be anybody who answers at a metadata service's address.
func TestEndlessCredentials(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	endless := func(w http.ResponseWriter, r *http.Request) {
		chunk := []byte(strings.Repeat("a", 64<<10))
		for r.Context().Err() == nil && sent.Load() < 64<<20 {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	at := serve(t, http.HandlerFunc(endless))
	for name, lines := range map[string][]string{
		"metadata":     {"ec2_metadata_service_endpoint = " + at},
		"web identity": webIdentity(token, at),
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			_, err := open(t, "awskms:///alias/a?profile="+profile(t, lines...))
			wantError(t, err, kms.CodeCredentials, "the answer is too long")
			if n := sent.Load(); n > 32<<20 {
				t.Errorf("%d bytes were read", n)
			}
		})
	}
}
