package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"
	smithy "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imprint-oci/imprint/kms"
)

// A session asks AWS KMS in one region with one set of credentials.
type session struct {
	client      *sdk.Client
	credentials *credentials
	region      string
	profile     string // as the URI names it
	where       string // for people
}

// maxAnswer bounds an answer, bytes. The longest that AWS KMS gives to these two calls is below 4 KiB.
const maxAnswer = 256 << 10

var region = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`) })

// connect reads the configuration of AWS and gets credentials. Nothing in it repeats anything: that is [kms.Ask]'s.
func connect(ctx context.Context, n name, o kms.Options) (*session, error) {
	cfg, err := load(ctx, n)
	if err != nil {
		return nil, err
	}
	if cfg.Region != "" && !region().MatchString(cfg.Region) { // it becomes part of the host's name
		return nil, kms.Invalid(kms.CodeURI, "%q is no AWS region", kms.Text(cfg.Region))
	}
	if cfg.Region == "" { // the SDK would look for credentials first, and complain of those
		return nil, &kms.Error{Code: kms.CodeURI, Class: kms.ErrInvalid, Err: errors.New("no AWS region is named"),
			Remedy: "add ?region=REGION to the key URI, name the key by its ARN, or set AWS_REGION"}
	}
	s := &session{region: cfg.Region, profile: n.profile, where: service + " in " + cfg.Region, credentials: &credentials{cfg.Credentials}}
	s.client = sdk.NewFromConfig(cfg, func(c *sdk.Options) {
		if n.endpoint != "" {
			c.BaseEndpoint = &n.endpoint
		}
		c.Credentials = s.credentials
		if program, version, ok := strings.Cut(o.Agent, "/"); ok {
			c.APIOptions = append(slices.Clone(c.APIOptions), middleware.AddUserAgentKeyValue(program, version))
		}
	})
	if at := s.client.Options().BaseEndpoint; at != nil {
		if u, err := url.Parse(*at); err == nil {
			s.where += " at " + u.Scheme + "://" + u.Host // without what may be a password
			if o.Warn != nil && kms.Unencrypted(u) {
				o.Warn("requests to " + s.where + ", and the session token if there is one, go there without encryption")
			}
		}
	}
	if err := s.login(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// load reads the AWS_ variables and the files below ~/.aws.
func load(ctx context.Context, n name) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		// A BuildableClient and no other: the SDK puts AWS_CA_BUNDLE into it.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 64 // 32 calls are in flight at once; the SDK keeps 10 connections
			t.OnProxyConnectResponse = kms.ProxyAnswer
		})),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithLogger(logging.Nop{}), // its own writes to standard error
		// Of those too that give credentials, as whatever answers where a metadata service would be.
		config.WithAPIOptions([]func(*smithy.Stack) error{
			func(s *smithy.Stack) error { return s.Deserialize.Add(bounded{}, smithy.After) },
		}),
	}
	if n.region != "" {
		options = append(options, config.WithRegion(n.region))
	}
	if n.profile != "" {
		options = append(options, config.WithSharedConfigProfile(n.profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err == nil {
		return cfg, nil
	}
	e := &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService}
	var missing config.SharedConfigProfileNotExistError
	var mfa config.AssumeRoleTokenProviderNotSetError
	switch {
	case errors.As(err, &missing):
		e.Err = fmt.Errorf("there is no AWS profile %q", missing.Profile)
		e.Remedy = "`aws configure list-profiles` shows those that there are"
	case errors.As(err, &mfa):
		e.Err = errors.New("the AWS profile assumes a role with an MFA code, which nobody is asked for here")
		e.Remedy = "get temporary credentials first and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
	default:
		e.Err = fmt.Errorf("reading the AWS configuration: %s", kms.Text(err.Error()))
		e.Remedy = "check ~/.aws/config, ~/.aws/credentials and the files that AWS_ variables name, as AWS_CA_BUNDLE"
	}
	return aws.Config{}, e
}

// bounded keeps answers from filling the memory. It is the last that a request goes through, and so the first to see its answer.
type bounded struct{}

func (bounded) ID() string { return "bounded" }

func (bounded) HandleDeserialize(ctx context.Context, in smithy.DeserializeInput, next smithy.DeserializeHandler) (
	smithy.DeserializeOutput, smithy.Metadata, error,
) {
	out, about, err := next.HandleDeserialize(ctx, in)
	if answer, ok := out.RawResponse.(*smithyhttp.Response); ok && answer.Body != nil {
		answer.Body = kms.Bounded(answer.Body, maxAnswer)
	}
	return out, about, err
}
