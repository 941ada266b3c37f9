//! What holds for every verb: etcdctl's global flags, and their variables.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::switches::boolean;
use super::{Secret, duration};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line a field.
    Fields,
    /// For programs.
    Json,
    /// The message as it came.
    Protobuf,
    /// For people and simple scripts.
    Simple,
    /// A table, where there are rows and columns.
    Table,
}

impl Format {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Simple => "simple",
            Format::Table => "table",
        }
    }
}

/// What holds for every verb.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// JWT token used for authentication (if this option is used, --user and --password should not be set)
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_AUTH_JWT_TOKEN",
        hide_env_values = true,
        value_name = "string"
    )]
    pub auth_jwt_token: Option<Secret>,
    /// verify certificates of TLS-enabled secure servers using this CA bundle
    #[arg(long, global = true, env = "ETCDCTL_CACERT", value_name = "string")]
    pub cacert: Option<PathBuf>,
    /// identify secure client using this TLS certificate file
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_CERT",
        requires = "tls_key",
        value_name = "string"
    )]
    pub cert: Option<PathBuf>,
    /// timeout for short running command (excluding dial timeout)
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s", value_parser = duration, value_name = "duration")]
    pub command_timeout: Duration,
    /// say on standard error which flags are in force
    #[arg(long, global = true, env = "ETCDCTL_DEBUG")]
    pub debug: bool,
    /// dial timeout for client connections
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s", value_parser = duration, value_name = "duration")]
    pub dial_timeout: Duration,
    /// domain name to query for SRV records describing cluster endpoints
    #[arg(
        short = 'd',
        long,
        global = true,
        env = "ETCDCTL_DISCOVERY_SRV",
        value_name = "string"
    )]
    pub discovery_srv: Option<String>,
    /// service name to query when using DNS discovery
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_DISCOVERY_SRV_NAME",
        value_name = "string"
    )]
    pub discovery_srv_name: Option<String>,
    /// gRPC endpoints
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        value_name = "strings"
    )]
    pub endpoints: Vec<String>,
    /// print byte strings as hex encoded strings
    #[arg(long, global = true, env = "ETCDCTL_HEX")]
    pub hex: bool,
    /// accept insecure SRV records describing cluster endpoints
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_INSECURE_DISCOVERY",
        default_value = "true",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = boolean
    )]
    pub insecure_discovery: bool,
    /// skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY")]
    pub insecure_skip_tls_verify: bool,
    /// disable transport security for client connections
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_INSECURE_TRANSPORT",
        default_value = "true",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = boolean
    )]
    pub insecure_transport: bool,
    /// keepalive time for client connections
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIME", default_value = "2s", value_parser = duration, value_name = "duration")]
    pub keepalive_time: Duration,
    /// keepalive timeout for client connections
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIMEOUT", default_value = "6s", value_parser = duration, value_name = "duration")]
    pub keepalive_timeout: Duration,
    /// identify secure client using this TLS key file
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        env = "ETCDCTL_KEY",
        requires = "cert",
        value_name = "string"
    )]
    pub key: Option<PathBuf>,
    /// client-side response receive limit in bytes (if 0, there is none)
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_MAX_RECV_BYTES",
        default_value_t = 0,
        value_name = "int"
    )]
    pub max_recv_bytes: usize,
    /// client-side request send limit in bytes (if 0, the server's holds)
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_MAX_REQUEST_BYTES",
        default_value_t = 0,
        value_name = "int"
    )]
    pub max_request_bytes: usize,
    /// password for authentication (if this option is used, --user option shouldn't include password)
    #[arg(
        id = "whose_password",
        long = "password",
        global = true,
        env = "ETCDCTL_PASSWORD",
        hide_env_values = true,
        value_name = "string"
    )]
    pub password: Option<Secret>,
    /// write the result as JSON to this file as well (a pod's termination log)
    #[arg(long, global = true, value_name = "string")]
    pub result_file: Option<PathBuf>,
    /// username[:password] for authentication (prompt if password is not supplied)
    #[arg(
        id = "who",
        long = "user",
        global = true,
        env = "ETCDCTL_USER",
        hide_env_values = true,
        value_name = "string"
    )]
    pub user: Option<Secret>,
    /// set the output format (fields, json, protobuf, simple, table)
    #[arg(
        short,
        long,
        global = true,
        env = "ETCDCTL_WRITE_OUT",
        default_value = "simple",
        value_name = "string"
    )]
    pub write_out: Format,
}

impl Global {
    /// Bytes of an answer that are taken: a range may have any size.
    pub fn answer_bytes_max(&self) -> usize {
        limit(self.max_recv_bytes)
    }

    /// Bytes of a request that are sent.
    pub fn request_bytes_max(&self) -> usize {
        limit(self.max_request_bytes)
    }
}

fn limit(bytes: usize) -> usize {
    match bytes {
        0 => usize::MAX,
        bytes => bytes,
    }
}
