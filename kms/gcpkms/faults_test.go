package gcpkms

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/gcptest"
)

const (
	flags      = "--key K --keyring r --location europe-west3 --project acme.example:p"
	signerRole = "gcloud kms keys add-iam-policy-binding K --keyring r --location europe-west3 --project acme.example:p --role roles/cloudkms.signerVerifier"
	enable     = "`gcloud kms keys versions enable 1 " + flags + "`"
	fewerJobs  = "run it again later with fewer --jobs"
	waitForIt  = "wait until it is ENABLED"
)

// refusals are what the service may answer for good: whatever was asked, it is asked once.
var refusals = map[string]struct {
	fault  gcptest.Fault
	code   string
	remedy string
	says   string
}{
	"F32 denied":             {gcptest.Denied, kms.CodeDenied, signerRole, " is denied on " + one + " (or it may not exist)"},
	"F32 denied, no details": {gcptest.DeniedTersely, kms.CodeDenied, signerRole, " is denied on " + one + " (or it may not exist)"},
	"F32 disabled":           {gcptest.Disabled, kms.CodeUnusable, "enable it: " + enable, "version 1 is not enabled, its state is DISABLED"},
	"F32 disabled, by REST":  {gcptest.DisabledREST, kms.CodeUnusable, "enable it: " + enable, "version 1 is not enabled, its state is DISABLED"},
	"F32 pending deletion": {gcptest.DestroyScheduled, kms.CodeUnusable, "bring it back: `gcloud kms keys versions restore 1 " + flags + "`, then " + enable,
		"its state is DESTROY_SCHEDULED"},
	"destroyed":          {gcptest.Destroyed, kms.CodeUnusable, "nothing brings this version back", "its state is DESTROYED"},
	"pending generation": {gcptest.PendingGeneration, kms.CodeUnusable, waitForIt, "its state is PENDING_GENERATION"},
	"not for signing":    {gcptest.Purpose, kms.CodeUnusable, "--purpose asymmetric-signing", "purpose ENCRYPT_DECRYPT does not allow"},
	"API off":            {gcptest.ServiceDisabled, kms.CodeDenied, "gcloud services enable cloudkms.googleapis.com --project acme.example:p", "has not been used in project"},
	"scope":              {gcptest.Scope, kms.CodeDenied, "https://www.googleapis.com/auth/cloudkms", "insufficient authentication scopes"},
	"quota project":      {gcptest.QuotaProject, kms.CodeDenied, "set-quota-project", "required permission to use project other"},
	"perimeter":          {gcptest.Perimeter, kms.CodeDenied, "", "vpcServiceControlsUniqueIdentifier: AbCdEf"},
	"expired":            {gcptest.Expired, kms.CodeExpired, logInAgain, "invalid authentication credentials"},
	"no token":           {gcptest.Missing, kms.CodeCredentials, "set GOOGLE_APPLICATION_CREDENTIALS", "missing required authentication credential"},
	"other argument":     {gcptest.WrongLocation, kms.CodeService, "", "InvalidArgument: The location is not supported"},
	"odd":                {gcptest.Unknown, kms.CodeService, "", "DataLoss: Something nobody knows[31m"},
	"answer too large":   {gcptest.LargeAnswer, kms.CodeService, "", "larger than max"},
}

func TestRefusalsAtOpen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-256"))
	for name, tt := range refusals {
		t.Run(name, func(t *testing.T) {
			p.Reset()
			p.Fault(always(gcptest.GetPublicKey, tt.fault))
			k, err := p.open(t, one)
			if k != nil {
				t.Error("it is opened")
			}
			wantError(t, err, tt.code, kms.ErrService, tt.remedy, "opening key gcpkms://"+one+": reading its public key: ", tt.says)
			if tt.fault == gcptest.Denied {
				wantError(t, err, tt.code, kms.ErrService, tt.remedy, "the permission cloudkms.cryptoKeyVersions.viewPublicKey is denied")
			}
			if n := p.Calls(gcptest.GetPublicKey); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
	p.Reset()
	_, err := p.open(t, keyName+"/cryptoKeyVersions/7")
	wantError(t, err, kms.CodeNotFound, kms.ErrService, "gcloud kms keys versions list "+flags, "CryptoKeyVersion "+keyName+"/cryptoKeyVersions/7 not found")
	if n := p.Calls(gcptest.GetPublicKey); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestRefusalsAtSign(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-256"))
	k := p.mustOpen(t, one)
	for name, tt := range refusals {
		t.Run(name, func(t *testing.T) {
			p.Reset()
			p.Fault(always(gcptest.AsymmetricSign, tt.fault))
			metered, calls := kms.Metered(k)
			_, err := sign(t, metered)
			wantError(t, err, tt.code, kms.ErrService, tt.remedy, "signing with gcpkms://"+one+": ", tt.says)
			if tt.fault == gcptest.Denied {
				wantError(t, err, tt.code, kms.ErrService, tt.remedy, "the permission cloudkms.cryptoKeyVersions.useToSign is denied")
			}
			if n := p.Calls(gcptest.AsymmetricSign); n != 1 || calls.Load() != 1 {
				t.Errorf("%d calls, %d counted", n, calls.Load())
			}
		})
	}
}

// What passes is waited for, and every call is counted.
func TestSignsAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault gcptest.Fault
		times int
	}{
		"F31 throttled twice":      {gcptest.Throttled, 2},
		"F31 told when to return":  {gcptest.ThrottledBriefly, 1},
		"F31 unavailable twice":    {gcptest.Unavailable, 2},
		"F31 internal error twice": {gcptest.Internal, 2},
		"F33 answer lost":          {gcptest.Lost, 1},
		"F33 answer lost twice":    {gcptest.Lost, 2},
		"signature damaged":        {gcptest.BadChecksum, 1},
		"digest not seen":          {gcptest.Unverified, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.AddKey(one, certtest.Key("P-256"))
			k, calls := kms.Metered(p.mustOpen(t, one))
			p.Fault(first(tt.times, gcptest.AsymmetricSign, tt.fault))
			begun := time.Now()
			if _, err := sign(t, k); err != nil {
				t.Fatal(err)
			}
			if n := p.Calls(gcptest.AsymmetricSign); n != tt.times+1 || int(calls.Load()) != n {
				t.Errorf("%d calls, %d counted, want %d", n, calls.Load(), tt.times+1)
			}
			if took := time.Since(begun); tt.fault == gcptest.ThrottledBriefly && took < 700*time.Millisecond {
				t.Errorf("asked again after %s", took)
			}
		})
	}
}

// What does not pass is given up: a busy service after 8 calls, a connection that breaks after 3.
func TestSignsInVain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault  gcptest.Fault
		code   string
		remedy string
		says   string
		calls  int
	}{
		"F31 throttled for ever":  {gcptest.Throttled, kms.CodeThrottled, fewerJobs, "asked 8 times in ", 8},
		"F31 failing for ever":    {gcptest.Internal, kms.CodeService, "", "Internal: Internal error encountered", 8},
		"F33 answers always lost": {gcptest.Lost, kms.CodeUnreachable, "cloudkms.googleapis.com:443 must be reachable", "asked 3 times in ", 3},
		"F31 silence":             {gcptest.Silence, kms.CodeUnreachable, "cloudkms.googleapis.com:443 must be reachable", "no answer within 13s", 1},
		"F34 another key":         {gcptest.OtherKey, kms.CodeSignature, "", "what came back is no signature of the key that was opened", 1},
		"F34 another version":     {gcptest.OtherName, kms.CodeSignature, "", "cryptoKeyVersions/77\", not by the version that was asked", 1},
		"truncated digest":        {gcptest.Truncated, kms.CodeSignature, "", "does not verify", 1},
		"signature damaged":       {gcptest.BadChecksum, kms.CodeService, "changes what is sent", "the signature does not match its checksum", 8},
		"no checksum":             {gcptest.NoChecksum, kms.CodeService, "changes what is sent", "the signature came without its checksum", 8},
		"digest not seen":         {gcptest.Unverified, kms.CodeService, "changes what is sent", "did not see the checksum of the digest", 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.AddKey(one, certtest.Key("P-256"))
			k, calls := kms.Metered(p.mustOpen(t, one))
			p.Fault(always(gcptest.AsymmetricSign, tt.fault))
			begun := time.Now()
			sig, err := sign(t, k)
			if sig != nil {
				t.Error("there is a signature")
			}
			wantError(t, err, tt.code, kms.ErrService, tt.remedy, "signing with gcpkms://"+one+": ", tt.says)
			if n := p.Calls(gcptest.AsymmetricSign); n != tt.calls || int(calls.Load()) != n {
				t.Errorf("%d calls, %d counted, want %d", n, calls.Load(), tt.calls)
			}
			if took := time.Since(begun); took > 20*time.Second || tt.fault == gcptest.Silence && took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// F34: RSA signatures by another key, with another salt, over a part of the digest.
func TestF34WrongRSASignatures(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("RSA-2048"))
	k := p.mustOpen(t, one)
	for fault, says := range map[gcptest.Fault]string{
		gcptest.OtherKey: "PS256: signature does not verify", gcptest.LongSalt: "salt is not as long as the hash", gcptest.Truncated: "does not verify",
	} {
		p.Reset()
		p.Fault(always(gcptest.AsymmetricSign, fault))
		_, err := sign(t, k)
		wantError(t, err, kms.CodeSignature, kms.ErrService, "", says)
		if n := p.Calls(gcptest.AsymmetricSign); n != 1 {
			t.Errorf("%d calls", n)
		}
	}
}

// A dead endpoint ends in at most 15 s; the client itself would go on for 60.
func TestDeadEndpoint(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, tt := range map[string]struct {
		prepare func(*place) []option.ClientOption
		says    string
		least   time.Duration
		most    time.Duration
	}{
		"F31 closed port": {func(p *place) []option.ClientOption {
			return []option.ClientOption{p.through("http://" + closed.Addr().String())}
		}, "connection refused", 0, 5 * time.Second},
		"F31 unknown to the proxy": {func(p *place) []option.ClientOption { p.world.Remove(gcptest.Host); return nil }, "the proxy says 502", 0, 5 * time.Second},
		"F31 silent":               {func(p *place) []option.ClientOption { p.world.Silence(gcptest.Host); return nil }, "no answer within 13s", 12 * time.Second, 15 * time.Second},
		"silent when asked": {func(p *place) []option.ClientOption {
			p.Fault(always(gcptest.GetPublicKey, gcptest.Silence))
			return nil
		}, "no answer within 13s", 12 * time.Second, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.AddKey(one, certtest.Key("P-256"))
			more := tt.prepare(p)
			begun := time.Now()
			_, err := p.open(t, one, more...)
			took := time.Since(begun)
			wantError(t, err, kms.CodeUnreachable, kms.ErrService, "check the network and HTTPS_PROXY: cloudkms.googleapis.com:443 must be reachable", tt.says)
			if took < tt.least || took > tt.most {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A connection that fails once is made anew by the next try, not after gRPC's own pauses of seconds.
func TestComesBack(t *testing.T) { // not parallel: the connection has to be made within the 300 ms of three tries
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-256"))
	var dialled atomic.Int64
	_, err := p.open(t, one, option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		if dialled.Add(1) == 1 {
			return nil, errors.New("not yet")
		}
		return p.dial(ctx, p.world.Proxy, address)
	})))
	if err != nil || dialled.Load() != 2 {
		t.Errorf("%v after dialling %d times", err, dialled.Load())
	}
}

// A call ends with its context.
func TestCancelled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.AddKey(one, certtest.Key("P-256"))
	k := p.mustOpen(t, one)
	p.Fault(always(gcptest.AsymmetricSign, gcptest.Silence))
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(stop) })
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := k.Sign(ctx, nil, a.SignerOpts()); !errors.Is(err, stop) {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
