package awskms_test

import (
	"crypto"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
)

func at(s *awstest.Server) string { return "?endpoint=" + url.QueryEscape(s.URL) }

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			signer := certtest.Key(algorithm)
			arn := s.AddKey("Release/Key_1", signer)
			k := mustOpen(t, "awskms:///alias/Release/Key_1"+at(s))
			kmstest.RunWith(t, k, kmstest.Options{Network: true})
			if !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
				t.Error("it is another key")
			}
			if d := kms.Describe(k); d.Service != "AWS KMS" || d.Version != "" || d.PKCS1 != strings.HasPrefix(algorithm, "RSA") {
				t.Errorf("%+v", d)
			}
			if id, want := k.(kms.Identifier).ID(), "awskms:///"+arn+at(s); id != want {
				t.Errorf("ID is %s, want %s", id, want)
			}
			if n, all := s.Calls("GetPublicKey"), s.Calls("")-s.Calls("Sign"); n != 1 || all != 1 {
				t.Errorf("%d calls besides Sign, %d of GetPublicKey: want that one", all, n)
			}
			if agents := s.Agents(); len(agents) != 1 || !strings.Contains(agents[0], " imprint/1.2.3") {
				t.Errorf("User-Agent %q", agents)
			}
		})
	}
}

// Every name of a key leads to its ARN, which leads to it for ever.
func TestNames(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	signer, far := certtest.Key("P-256"), certtest.Key("P-256")
	arn := s.AddKey("release", signer)
	farARN := s.AddKey("release", far, func(k *awstest.Key) { k.Region = "us-west-2" })
	id := arn[strings.LastIndex(arn, "/")+1:]
	endpoint := url.QueryEscape(s.URL)
	west := profile(t, "region = us-west-2", "aws_access_key_id = "+awstest.AccessKeyID, "aws_secret_access_key = x")
	for uri, want := range map[string]struct {
		key crypto.Signer
		id  string
	}{
		"awskms:///alias/release?endpoint=" + endpoint:                              {signer, "awskms:///" + arn + "?endpoint=" + endpoint},
		"awskms:///" + id + "?endpoint=" + endpoint:                                 {signer, "awskms:///" + arn + "?endpoint=" + endpoint},
		"awskms:///" + arn + "?endpoint=" + endpoint:                                {signer, "awskms:///" + arn + "?endpoint=" + endpoint},
		"awskms:key-id=" + id + ";region=eu-central-1?endpoint=" + endpoint:         {signer, "awskms:///" + arn + "?endpoint=" + endpoint},
		"awskms:///alias/release?region=us-west-2&endpoint=" + endpoint:             {far, "awskms:///" + farARN + "?endpoint=" + endpoint},
		"awskms:///" + farARN + "?endpoint=" + endpoint:                             {far, "awskms:///" + farARN + "?endpoint=" + endpoint},
		"awskms:///" + strings.Split(farARN, ":key/")[0] + ":alias/release" + at(s): {far, "awskms:///" + farARN + "?endpoint=" + endpoint},
		// As everywhere in AWS: AWS_REGION goes before the profile, and what the URI says before both.
		"awskms:///alias/release?endpoint=" + endpoint + "&profile=" + west:          {signer, "awskms:///" + arn + "?endpoint=" + endpoint + "&profile=" + west},
		"awskms:///alias/release?region=us-west-2&profile=" + west + "&" + at(s)[1:]: {far, "awskms:///" + farARN + "?endpoint=" + endpoint + "&profile=" + west},
	} {
		k, err := open(t, uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if got := k.(kms.Identifier).ID(); got != want.id {
			t.Errorf("%s is %s, want %s", uri, got, want.id)
		}
		if !want.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
			t.Errorf("%s is another key", uri)
		}
		again := mustOpen(t, k.(kms.Identifier).ID())
		if !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
			t.Errorf("%s is another key when it is opened by its ID", uri)
		}
	}
}

// An alias that moves in the middle of a run changes nothing: what was opened is a key, not a name.
func TestAliasMoves(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	s.AddKey("release", certtest.Key("P-256"))
	next := s.AddKey("next", certtest.Key("P-256"))
	k := mustOpen(t, "awskms:///alias/release"+at(s))
	s.MoveAlias("release", next)
	if calls, err := sign(t, k); err != nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if moved := mustOpen(t, "awskms:///alias/release"+at(s)); moved.(kms.Identifier).ID() == k.(kms.Identifier).ID() {
		t.Error("the alias has not moved")
	}
}

// A key with which no Notary Project signature can be made fails before it costs a signature, and the usable ones are named.
func TestA04Unusable(t *testing.T) {
	t.Parallel()
	usable := []string{"SIGN_VERIFY", "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521"}
	for name, tt := range map[string]struct {
		edit func(*awstest.Key)
		says string
	}{
		"secp256k1": {func(k *awstest.Key) {
			k.Spec, k.Algorithms, k.Public = "ECC_SECG_P256K1", []string{"ECDSA_SHA_256"}, secp256k1
		}, "ECC_SECG_P256K1"},
		"for encryption": {func(k *awstest.Key) {
			k.Usage, k.Algorithms = "ENCRYPT_DECRYPT", nil
		}, "ENCRYPT_DECRYPT"},
		"key agreement": {func(k *awstest.Key) { k.Usage, k.Algorithms = "KEY_AGREEMENT", nil }, "KEY_AGREEMENT"},
		"symmetric": {func(k *awstest.Key) {
			k.Usage, k.Spec, k.Public, k.Algorithms = "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", nil, nil
		}, "SYMMETRIC_DEFAULT"},
		"post-quantum":   {func(k *awstest.Key) { k.Spec, k.Algorithms = "ML_DSA_65", []string{"ML_DSA_SHAKE_256"} }, "ML_DSA_65"},
		"only PKCS #1":   {func(k *awstest.Key) { k.Algorithms = []string{"RSASSA_PKCS1_V1_5_SHA_256"} }, "RSASSA_PSS_SHA_256"},
		"only SHA-512":   {func(k *awstest.Key) { k.Algorithms = []string{"RSASSA_PSS_SHA_512"} }, "RSASSA_PSS_SHA_256"},
		"no algorithms":  {func(k *awstest.Key) { k.Algorithms = nil }, "RSASSA_PSS_SHA_256"},
		"control\x1bkey": {func(k *awstest.Key) { k.Spec = "A\x1b[31m\nB" }, "A[31m B"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			s.AddKey("a", certtest.Key("RSA-2048"), tt.edit)
			_, err := open(t, "awskms:///alias/a"+at(s))
			wantError(t, err, kms.CodeAlgorithm, append(usable, tt.says)...)
			if n := s.Calls(""); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

// What a service, or what sits in front of it, says of a key is not believed blindly.
func TestAnswersThatContradict(t *testing.T) {
	t.Parallel()
	other, err := x509SPKI(certtest.Key("P-384").Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit func(*awstest.Key)
		says string
	}{
		"public key of another spec": {func(k *awstest.Key) { k.Public = other }, "EC-384"},
		"no public key":              {func(k *awstest.Key) { k.Public = []byte("rubbish") }, "cannot be read"},
	} {
		s := awstest.New(t)
		s.AddKey("a", certtest.Key("P-256"), tt.edit)
		_, err := open(t, "awskms:///alias/a"+at(s))
		if wantError(t, err, kms.CodeService, tt.says); t.Failed() {
			t.Log(name)
		}
	}
	const uri = "1234abcd-12ab-34cd-56ef-1234567890ab"
	for answer, says := range map[string]string{
		`{}`:                    "no key ARN",
		`{"KeyId":"alias/a"}`:   "no key ARN",
		`{"KeyId":"a\u0007\n"}`: "no key ARN",
		`{"KeyId":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-0000-34cd-56ef-1234567890ab"}`: "another key",
		`{"KeyId":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}`:    "another key",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.Write([]byte(answer))
		}))
		defer s.Close()
		_, err := open(t, "awskms:///"+uri+"?endpoint="+url.QueryEscape(s.URL))
		wantError(t, err, kms.CodeService, says)
	}
}

// 32 signatures at once, round after round, over connections that are kept.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	s.AddKey("a", certtest.Key("P-256"))
	s.Latency(100 * time.Millisecond)
	var made atomic.Int64
	front := httptest.NewUnstartedServer(s)
	front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	front.Start()
	defer front.Close()
	k := mustOpen(t, "awskms:///alias/a?endpoint="+url.QueryEscape(front.URL))
	for range 4 {
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if calls, err := sign(t, k); err != nil || calls != 1 {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		}
		wg.Wait()
	}
	if peak := s.Peak(); peak < 24 || peak > 32 { // fewer on a machine that is busy with other things
		t.Errorf("%d calls in flight, want 32", peak)
	}
	if n := made.Load(); n > 40 {
		t.Errorf("%d connections for 160 signatures, 32 at once", n)
	}
}

// An endpoint with a certificate of a CA of one's own: AWS_CA_BUNDLE, here as ca_bundle of a profile, which the SDK treats alike.
func TestCABundle(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	arn := s.AddKey("a", certtest.Key("P-256"))
	front := httptest.NewUnstartedServer(s)
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // one client does not trust it
	front.StartTLS()
	defer front.Close()
	host := front.Listener.Addr().String()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(bundle, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	keys := []string{"aws_access_key_id = " + awstest.AccessKeyID, "aws_secret_access_key = x"}
	with := profile(t, append(slices.Clone(keys), "ca_bundle = "+bundle)...)
	without := profile(t, keys...)

	k := mustOpen(t, "awskms://"+host+"/alias/a?profile="+with)
	if id, want := k.(kms.Identifier).ID(), "awskms:///"+arn+"?endpoint="+url.QueryEscape("https://"+host)+"&profile="+with; id != want {
		t.Errorf("ID is %s, want %s", id, want)
	}
	if _, err := sign(t, k); err != nil {
		t.Error(err)
	}
	_, err := open(t, "awskms://"+host+"/alias/a?profile="+without)
	wantError(t, err, kms.CodeUnreachable, host, "certificate", "AWS_CA_BUNDLE")
	missing := profile(t, append(slices.Clone(keys), "ca_bundle = /nowhere/ca.pem")...)
	_, err = open(t, "awskms://"+host+"/alias/a?profile="+missing)
	wantError(t, err, kms.CodeCredentials, "/nowhere/ca.pem", "AWS_CA_BUNDLE")
}
