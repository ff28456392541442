//! Settings of conversations as JSON: in the API's objects, in events and in the store (spec 05 §2.2).
//!
//! Owns their names and defaults. Never decides which values are allowed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::v1 as wire;

/// Settings by the type of the conversation. Reading fills in defaults for what is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Settings {
    /// Of a group.
    #[serde(rename = "group_settings")]
    Group(Group),
    /// Of the world room.
    #[serde(rename = "world_settings")]
    World(World),
    /// Of a single chat.
    #[serde(rename = "single_settings")]
    Single(Single),
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = GroupSettings)]
pub struct Group {
    /// Reserved.
    pub join_approval_required: bool,
    /// Plain members may invite.
    pub invite_enabled: bool,
    /// Members at most.
    pub max_members: i32,
    /// Only admins and the owner may send.
    pub mute_all: bool,
    /// False: members see what was sent after they joined.
    pub allow_member_view_history: bool,
    /// For the members; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub announcement: String,
}

/// Settings of the world room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = WorldSettings)]
pub struct World {
    /// Guests may join.
    pub guest_allowed: bool,
    /// Messages per minute and user.
    pub message_rate_limit: i32,
    /// Guests join when they come.
    pub auto_join_guests: bool,
    /// Reserved.
    pub content_filter_enabled: bool,
}

/// Settings of a single chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = SingleSettings)]
pub struct Single {
    /// Messages may be recalled.
    pub allow_recall: bool,
    /// For how long, seconds.
    pub recall_time_limit: i32,
    /// Read marks are shown to the other side.
    pub show_read_status: bool,
}

impl Default for Group {
    fn default() -> Group {
        Group {
            join_approval_required: false,
            invite_enabled: true,
            max_members: 500,
            mute_all: false,
            allow_member_view_history: true,
            announcement: String::new(),
        }
    }
}

impl Default for World {
    fn default() -> World {
        World { guest_allowed: true, message_rate_limit: 10, auto_join_guests: true, content_filter_enabled: false }
    }
}

impl Default for Single {
    fn default() -> Single {
        Single { allow_recall: true, recall_time_limit: 120, show_read_status: true }
    }
}

impl Settings {
    /// What a conversation of this type (`common.v1.ConversationType`) has as long as nobody changed it.
    pub fn defaults(kind: i32) -> Option<Settings> {
        match wire::ConversationType::try_from(kind) {
            Ok(wire::ConversationType::Single) => Some(Settings::Single(Single::default())),
            Ok(wire::ConversationType::Group) => Some(Settings::Group(Group::default())),
            Ok(wire::ConversationType::World) => Some(Settings::World(World::default())),
            Ok(wire::ConversationType::Unspecified) | Err(_) => None,
        }
    }

    /// From the store's text; what is absent or of another version gets its default. `None` for an unknown type.
    pub fn stored(kind: i32, json: &str) -> Option<Settings> {
        let defaults = Settings::defaults(kind)?;
        match serde_json::from_str::<Settings>(json) {
            Ok(stored) if std::mem::discriminant(&stored) == std::mem::discriminant(&defaults) => Some(stored),
            Ok(_) | Err(_) => Some(defaults),
        }
    }

    /// For the store.
    pub fn to_json(&self) -> String {
        // Strings, numbers and booleans: nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<Settings> for wire::ConversationSettings {
    fn from(settings: Settings) -> wire::ConversationSettings {
        let mut wire = wire::ConversationSettings::default();
        match settings {
            Settings::Group(group) => {
                wire.group_settings = Some(wire::GroupSettings {
                    join_approval_required: group.join_approval_required,
                    invite_enabled: group.invite_enabled,
                    max_members: group.max_members,
                    mute_all: group.mute_all,
                    allow_member_view_history: group.allow_member_view_history,
                    announcement: group.announcement,
                });
            }
            Settings::World(world) => {
                wire.world_settings = Some(wire::WorldChatSettings {
                    guest_allowed: world.guest_allowed,
                    message_rate_limit: world.message_rate_limit,
                    auto_join_guests: world.auto_join_guests,
                    content_filter_enabled: world.content_filter_enabled,
                });
            }
            Settings::Single(single) => {
                wire.single_settings = Some(wire::SingleChatSettings {
                    allow_recall: single.allow_recall,
                    recall_time_limit: single.recall_time_limit,
                    show_read_status: single.show_read_status,
                });
            }
        }
        wire
    }
}

/// As the API shows what a service sent; `None` when there are none.
pub fn view(settings: &wire::ConversationSettings) -> Option<Settings> {
    if let Some(group) = &settings.group_settings {
        return Some(Settings::Group(Group {
            join_approval_required: group.join_approval_required,
            invite_enabled: group.invite_enabled,
            max_members: group.max_members,
            mute_all: group.mute_all,
            allow_member_view_history: group.allow_member_view_history,
            announcement: group.announcement.clone(),
        }));
    }
    if let Some(world) = &settings.world_settings {
        return Some(Settings::World(World {
            guest_allowed: world.guest_allowed,
            message_rate_limit: world.message_rate_limit,
            auto_join_guests: world.auto_join_guests,
            content_filter_enabled: world.content_filter_enabled,
        }));
    }
    settings.single_settings.as_ref().map(|single| {
        Settings::Single(Single {
            allow_recall: single.allow_recall,
            recall_time_limit: single.recall_time_limit,
            show_read_status: single.show_read_status,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn what_is_absent_gets_its_default() {
        let stored = Settings::stored(2, r#"{"group_settings":{"mute_all":true,"later":1}}"#).unwrap();
        assert_eq!(stored, Settings::Group(Group { mute_all: true, ..Group::default() }));
        for text in ["", "{}", "[]", r#"{"single_settings":{}}"#] {
            assert_eq!(Settings::stored(2, text), Settings::defaults(2), "{text:?}");
        }
        assert_eq!(Settings::stored(0, "{}"), None);
    }

    #[test]
    fn every_kind_survives_the_store_and_the_wire() {
        for kind in 1..=3 {
            let settings = Settings::defaults(kind).unwrap();
            assert_eq!(Settings::stored(kind, &settings.to_json()), Some(settings.clone()));
            assert_eq!(view(&settings.clone().into()), Some(settings));
        }
        assert_eq!(view(&wire::ConversationSettings::default()), None);
    }
}
