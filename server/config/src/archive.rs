//! Where the log is archived to.

use std::path::PathBuf;

use super::raw::Raw;
use super::settings::Archive;

/// What the flags of the log archive say; none without a URL.
pub(super) fn archive(raw: &Raw) -> Result<Option<Archive>, String> {
    let (url, cluster) = (raw.text("archive-url"), raw.text("archive-cluster"));
    let keys = raw.list("archive-encryption-key-files");
    if url.is_empty() {
        let lost = [
            ("--archive-cluster", !cluster.is_empty()),
            ("--archive-encryption-key-files", !keys.is_empty()),
        ];
        return match lost.iter().find(|(_, is_given)| *is_given) {
            None => Ok(None),
            Some((flag, _)) => Err(format!(
                "{flag} needs --archive-url: say where to archive to"
            )),
        };
    }
    let schemes = ["s3://", "gs://", "az://", "https://", "file:///"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        let shown = url.split('?').next().unwrap_or_default();
        return Err(format!(
            "--archive-url={shown} names no store: use s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix or file:///directory"
        ));
    }
    if cluster.is_empty() {
        return Err(
            "--archive-url needs --archive-cluster: the name under which the cluster's backups lie"
                .into(),
        );
    }
    let segment_bytes = usize::try_from(raw.unsigned("archive-segment-bytes"));
    Ok(Some(Archive {
        url: url.to_owned(),
        cluster: cluster.to_owned(),
        key_files: keys.iter().map(PathBuf::from).collect(),
        delay_max: super::validate::duration(raw, "archive-max-delay"),
        segment_bytes: segment_bytes.map_err(|error| error.to_string())?,
        backlog_bytes: raw.unsigned("archive-backlog-bytes"),
    }))
}
